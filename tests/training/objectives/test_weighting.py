"""Errors weighted as in the likelihood, and velocities that are expected given the pixels."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from rnode_dyn import (
    Augmented,
    LogitTransform,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    ThreeBells,
    UniformDequantization,
    VariationalDequantization,
)
from rnode_dyn.data import Event
from rnode_dyn.flows.transforms import Compose
from rnode_dyn.training.objectives.flow_matching import FlowMatching
from rnode_dyn.training.objectives.reflow import Reflow
from tests.training.objectives.gaussian import make_optimal
from tests.training.objectives.test_flow_matching import (
    MakeStack,
    event_of,
    every_pace,
    every_stack,
    gaussian,
)

PIXELS = Event((1, 2, 2), levels=256)


@pytest.fixture
def _double_precision() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("_double_precision")
@pytest.mark.parametrize("times", ["stratified", "near-data"])
@every_pace
@every_stack
def test_the_weighted_error_of_anothers_field_is_the_divergence_from_its_density(
    make: MakeStack, pace: float, times: Any
) -> None:
    """Where q's own field is taken for p's, what it errs by is KL(p ‖ q), a coordinate's share."""
    model = make()
    data = gaussian(model)
    size = math.prod(model.event_shape)
    other = MultivariateNormal(data.mean + 0.3, data.covariance_matrix + 0.3 * torch.eye(size))
    objective = FlowMatching(times=times, pace=pace, weighting="likelihood")

    def loss(of: MultivariateNormal) -> float:
        torch.manual_seed(3)
        fitted = make_optimal(make(), of, pace)
        x = data.sample((60_000,)).view(-1, *model.event_shape)
        return objective.loss(fitted, x, event_of(model)).value.item()

    torch.manual_seed(4)
    expected = kl_divergence(data, other).item() / size
    assert loss(other) - loss(data) == pytest.approx(expected, rel=0.12)


class Linear(nn.Module):
    takes_times = True

    def __init__(self, slope: float, shift: float) -> None:
        super().__init__()
        self.slope, self.shift = slope, shift

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.slope * x + self.shift * (1 - t).reshape(-1, *[1] * (x.ndim - 1))


def pixels(count: int) -> Tensor:
    """Black, nearly black, grey and bright, hanging together."""
    rows = torch.tensor([[0, 0, 1, 130], [255, 253, 0, 0], [0, 250, 254, 252]])
    return rows[torch.randint(3, (count,))].view(-1, 1, 2, 2)


def drawing(field: nn.Module) -> MultiscaleFlow:
    bells = ThreeBells(1 / 256, 4 / 256)
    return MultiscaleFlow((1, 2, 2), [Scale([RegularizedFlow(field)])], preprocess=bells)


@pytest.mark.parametrize("weighting", ["even", "likelihood"])
@pytest.mark.parametrize("pace", [1.0, 1.5])
def test_expected_velocities_leave_what_is_learned_as_it_is(weighting: Any, pace: float) -> None:
    """Losses with drawn and with expected ones differ by the same for every field."""

    def loss(field: nn.Module, targets: Any) -> float:
        torch.manual_seed(5)
        objective = FlowMatching(
            "independent", "near-data", pace, weighting=weighting, targets=targets
        )
        u = UniformDequantization(256)(pixels(40_000))
        return objective.loss(drawing(field), u, PIXELS).value.item()

    fields = [Linear(0.0, 0.0), Linear(-0.7, 2.0), Linear(0.4, -1.0)]
    gaps = [loss(field, "drawn") - loss(field, "expected") for field in fields]
    apart = max(loss(field, "drawn") for field in fields) - loss(fields[0], "drawn")
    assert min(gaps) > 0  # what was averaged in closed form no longer scatters
    assert max(gaps) - min(gaps) < 0.02 * apart


def test_gradients_of_a_black_picture_scatter_less() -> None:
    def spread(targets: Any) -> float:
        gradients = []
        for seed in range(40):
            torch.manual_seed(seed)
            field = nn.Conv2d(1, 1, 1)
            nn.init.constant_(field.weight, -1.0)
            nn.init.zeros_(field.bias)
            flow = drawing(_Timeless(field))
            u = UniformDequantization(256)(torch.zeros(64, 1, 2, 2, dtype=torch.long))
            value = FlowMatching(times="near-data", targets=targets).loss(flow, u, PIXELS).value
            gradients.append(torch.autograd.grad(value, field.bias)[0])
        return torch.cat(gradients).std().item()

    assert spread("expected") < 0.6 * spread("drawn")


class _Timeless(nn.Module):
    takes_times = True

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.layer(x)


FIELD = Linear(0.0, 0.0)


@pytest.mark.parametrize(
    ("preprocess", "levels", "begins"),
    [
        (None, 256, "its blocks"),
        (LogitTransform(0.05), 256, "LogitTransform"),
        (ThreeBells(1 / 256, 4 / 256), None, "continuous"),
        (
            Compose([VariationalDequantization((1, 4, 4), 256), ThreeBells(1 / 256, 4 / 256)]),
            256,
            "Compose",
        ),
    ],
)
def test_what_is_no_bell_curve_has_no_expected_velocity(
    preprocess: Any, levels: int | None, begins: str
) -> None:
    flow = MultiscaleFlow((1, 4, 4), [Scale([RegularizedFlow(FIELD)])], preprocess=preprocess)
    objective = FlowMatching(targets="expected")
    with pytest.raises(ValueError, match=f'{begins}.* write targets = "drawn"'):
        objective.loss(flow, torch.rand(2, 1, 4, 4), Event((1, 4, 4), levels))


def test_an_augmented_flow_has_no_expected_velocities() -> None:
    flow = Augmented(RegularizedFlow(Linear(0.0, 0.0)), 1)
    with pytest.raises(TypeError, match='targets = "drawn"'):
        FlowMatching(targets="expected").loss(flow, torch.randn(4, 2))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"weighting": "likelihood", "times": "logit-normal"}, "weighting is 'likelihood', and "),
        ({"weighting": "likelihood", "coupling": "minibatch-ot"}, "weighting is 'likelihood', and"),
        ({"targets": "expected", "coupling": "minibatch-ot"}, "targets is 'expected', and with "),
        ({"weighting": "Likelihood"}, "weighting is 'Likelihood'; write one of 'even'"),
        ({"targets": "mean"}, "targets is 'mean'; write one of 'drawn'"),
    ],
)
def test_choices_that_exclude_each_other_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        FlowMatching(**given)


@pytest.mark.parametrize("given", [{"weighting": "likelihood"}, {"targets": "expected"}])
def test_a_teachers_pairs_are_weighted_evenly_and_drawn(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))} is"):
        Reflow(teacher=RegularizedFlow(Linear(0.0, 0.0)), **given)


def test_without_an_event_nobody_knows_the_pixels() -> None:
    with pytest.raises(ValueError, match=r"write event=Event\(shape, levels\)"):
        FlowMatching(targets="expected").loss(drawing(Linear(0.0, 0.0)), torch.rand(2, 1, 2, 2))


class Early(FlowMatching):
    """Times of its own, which lie as t⁴."""

    def draw_times(self, leg: Any, data: Tensor) -> Tensor:
        return torch.rand(len(data)) ** 4


class EarlyAndKnown(Early):
    def density_of_times(self, leg: Any, t: Tensor) -> Tensor:
        return t ** (-3 / 4) / 4


class Mirrored(FlowMatching):
    def noise_for(self, model: Any, data: Tensor, condition: Tensor | None = None) -> Tensor:
        return -data


def test_times_of_ones_own_want_their_density() -> None:
    with pytest.raises(ValueError, match="override density_of_times too"):
        Early(weighting="likelihood")
    flow = RegularizedFlow(Linear(0.0, 0.0))
    data = torch.randn(60_000, 2)
    losses = [
        objective.loss(flow, data).value.item()
        for objective in (
            FlowMatching(weighting="likelihood", times="near-data"),
            EarlyAndKnown(weighting="likelihood"),
        )
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


@pytest.mark.parametrize("given", [{"weighting": "likelihood"}, {"targets": "expected"}])
def test_noise_of_ones_own_is_not_known_to_be_independent(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Mirrored has noise of its own, and"):
        Mirrored(**given)


class OneOfThem(FlowMatching):
    """A block drawn at random in every step."""

    def route(self, model: MultiscaleFlow, device: torch.device) -> list[Any]:
        chosen = int(torch.randint(2, ()))
        return super().route(model, device)[chosen : chosen + 1]


def test_one_block_a_step_is_as_good_as_all_of_them_on_average() -> None:
    blocks = [RegularizedFlow(Linear(0.0, 0.0)), RegularizedFlow(Linear(-1.0, 0.0))]
    model = MultiscaleFlow((2,), [Scale(blocks)])
    data = torch.randn(4000, 2)
    whole = FlowMatching(weighting="likelihood", times="near-data").loss(model, data).value
    objective = OneOfThem(weighting="likelihood", times="near-data")
    single = torch.stack([objective.loss(model, data).value for _ in range(120)]).mean()
    assert float(single) == pytest.approx(float(whole), rel=0.2)
