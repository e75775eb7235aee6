"""What a distribution promises, of every kind of model."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    Compose,
    ConvField,
    ExactDivergence,
    FlowDistribution,
    HutchinsonDivergence,
    KineticEnergy,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Shift,
    Solver,
    Squeeze,
    ThreeBells,
)
from rnode_dyn.flows.distribution import standard_normal_log_prob
from tests.flows.cases import FINE, REGULARIZERS, SENSITIVITIES, name_of, randomize


def flow(field: nn.Module, solver: Solver = FINE) -> RegularizedFlow:
    return RegularizedFlow(randomize(field), solver, ExactDivergence(), [KineticEnergy(1.0)])


@dataclass(frozen=True)
class Case:
    """A model with the shape of its samples."""

    name: str
    make: Callable[[], nn.Module]
    event: tuple[int, ...]

    def build(self, temperature: float = 1.0) -> FlowDistribution:
        return FlowDistribution(self.make(), self.event, temperature)


CASES = [
    Case("flow", lambda: flow(MLPField(2, (4,))), (2,)),
    Case("image-flow", lambda: flow(ConvField(1, (2,))), (1, 2, 2)),
    Case(
        "compose",
        lambda: Compose([LogitTransform(0.05), Squeeze(), flow(ConvField(4, (3,)))]),
        (1, 2, 2),
    ),
    Case(
        "multiscale-images",
        lambda: MultiscaleFlow(
            (1, 2, 2),
            [
                Scale([flow(ConvField(1, (2,)))], squeeze=True, split=True),
                Scale([flow(ConvField(2, (2,)))]),
            ],
            preprocess=LogitTransform(0.05),
        ),
        (1, 2, 2),
    ),
    Case(
        "multiscale-vectors",
        lambda: MultiscaleFlow(
            (4,), [Scale([flow(MLPField(4, (3,)))], split=True), Scale([flow(MLPField(2, (3,)))])]
        ),
        (4,),
    ),
    Case("logit", lambda: LogitTransform(0.05), (3,)),
    Case("three bells", lambda: ThreeBells(0.1, 0.3), (3,)),
    Case("shift", lambda: Shift(-0.5), (2, 2)),
    Case("squeeze", Squeeze, (1, 2, 4)),
]

every_model = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_batch = pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3)], ids=str)


@every_model
@every_batch
def test_log_prob_is_the_change_of_variables(case: Case, batch: tuple[int, ...]) -> None:
    distribution = case.build()
    x = torch.rand(*batch, *case.event)
    log_prob = distribution.log_prob(x)
    assert log_prob.shape == batch
    z, log_det, _ = distribution.model(x.reshape(-1, *case.event))
    normal = -0.5 * z.flatten(1).square().sum(1) - 0.5 * x[(0,) * len(batch)].numel() * math.log(
        2 * math.pi
    )
    torch.testing.assert_close(log_prob, (normal + log_det).reshape(batch))


@every_model
@every_batch
def test_samples_have_the_shape_asked_for(case: Case, batch: tuple[int, ...]) -> None:
    distribution = case.build()
    for draw in (distribution.sample, distribution.rsample):
        samples = draw(torch.Size(batch))
        assert samples.shape == (*batch, *case.event)
        assert samples.dtype == torch.float64
        assert torch.isfinite(samples).all()
        assert torch.isfinite(distribution.log_prob(samples)).all()


@every_model
def test_density_of_a_sample_comes_from_its_latent(case: Case) -> None:
    distribution = case.build()
    z = 0.5 * torch.randn(3, *distribution.latent_shape)
    x, log_det, _ = distribution.model.inverse(z)
    expected = standard_normal_log_prob(z) - log_det
    torch.testing.assert_close(distribution.log_prob(x), expected, rtol=1e-6, atol=1e-6)


@every_model
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_temperature_scales_the_latents_and_leaves_the_density(
    case: Case, temperature: float
) -> None:
    distribution = case.build(temperature)
    torch.manual_seed(4)
    samples = distribution.sample((3,))
    torch.manual_seed(4)
    z = temperature * torch.randn(3, *distribution.latent_shape)
    torch.testing.assert_close(samples, distribution.model.generate(z))
    x = torch.rand(2, *case.event)
    plain = FlowDistribution(distribution.model, case.event)
    torch.testing.assert_close(distribution.log_prob(x), plain.log_prob(x))


@every_model
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_values_are_the_same_without_gradients(
    case: Case, context: Callable[[], AbstractContextManager]
) -> None:
    distribution = case.build()
    x = torch.rand(2, *case.event)
    expected = distribution.log_prob(x)
    torch.manual_seed(4)
    drawn = distribution.rsample((2,))
    with context():
        log_prob = distribution.log_prob(x)
        torch.manual_seed(4)
        samples = distribution.rsample((2,))
    assert not log_prob.requires_grad
    assert not samples.requires_grad
    torch.testing.assert_close(log_prob, expected.detach())
    torch.testing.assert_close(samples, drawn.detach())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_penalties_of_a_plain_field_survive_without_gradients(
    sensitivity: object, context: Callable[[], AbstractContextManager]
) -> None:
    solver = Solver(FINE.algorithm, FINE.stepping, sensitivity)  # type: ignore[arg-type]
    model = RegularizedFlow(
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)),
        solver,
        HutchinsonDivergence(),
        REGULARIZERS,
    )
    x = torch.randn(2, 2)
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    with context():
        result = model(x)
    torch.testing.assert_close(result.penalties, expected.penalties)
    torch.testing.assert_close(result.log_det, expected.log_det)


@every_model
def test_only_rsample_passes_gradients(case: Case) -> None:
    distribution = case.build()
    parameters = list(distribution.model.parameters())
    assert not distribution.sample((2,)).requires_grad
    samples = distribution.rsample((2,))
    assert samples.requires_grad == bool(parameters)
    if parameters:
        samples.square().sum().backward()
        assert any(p.grad is not None and p.grad.any() for p in parameters)


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_gradient_of_a_sample_is_a_finite_difference(sensitivity: object) -> None:
    solver = Solver(FINE.algorithm, FINE.stepping, sensitivity)  # type: ignore[arg-type]
    model = flow(MLPField(2, (4,)), solver)
    distribution, weight = FlowDistribution(model, (2,)), model.field.layers[0].bias

    def value() -> Tensor:
        torch.manual_seed(4)
        return distribution.rsample((3,)).square().sum()

    value().backward()
    with torch.no_grad():
        eps = 1e-5
        weight[0] += eps
        ahead = value()
        weight[0] -= 2 * eps
        behind = value()
    torch.testing.assert_close(weight.grad[0], (ahead - behind) / (2 * eps), rtol=1e-5, atol=1e-6)


@every_model
@pytest.mark.parametrize("mistake", ["too few axes", "another size", "one axis more behind"])
def test_values_of_a_wrong_shape_are_refused_with_both_shapes(case: Case, mistake: str) -> None:
    wrong = {
        "too few axes": case.event[1:],
        "another size": (*case.event[:-1], case.event[-1] + 1),
        "one axis more behind": (*case.event, 7),
    }[mistake]
    with pytest.raises(ValueError, match="value has shape") as refusal:
        case.build().log_prob(torch.rand(wrong))
    assert str(tuple(wrong)) in str(refusal.value)
    assert str(case.event) in str(refusal.value)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=rf"temperature is {temperature!r}"):
        FlowDistribution(Shift(0.0), (2,), temperature)


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Squeeze(), (1, 3, 4)), (MultiscaleFlow((4,), [Scale([])]), (5,))],
    ids=["squeeze", "multiscale"],
)
def test_an_event_that_the_model_cannot_take_is_refused(
    model: nn.Module, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="sample") as refusal:
        FlowDistribution(model, shape)
    assert str(shape) in str(refusal.value)


def grid(low: float, high: float, count: int) -> tuple[Tensor, float]:
    """Return the midpoints of a square's cells, and the area of one."""
    width = (high - low) / count
    axis = low + width * (torch.arange(count) + 0.5)
    return torch.cartesian_prod(axis, axis), width**2


@pytest.mark.parametrize("end_time", [0.5, 1.0])
def test_density_integrates_to_one_over_the_plane(end_time: float) -> None:
    model = RegularizedFlow(
        randomize(MLPField(2, (8,))), FINE, ExactDivergence(), end_time=end_time
    )
    points, area = grid(-12, 12, 120)
    with torch.no_grad():
        density = FlowDistribution(model, (2,)).log_prob(points).exp()
    assert abs(float(density.sum()) * area - 1) < 0.01


def test_density_integrates_to_one_over_the_logits_square() -> None:
    alpha = 0.05
    model = Compose([LogitTransform(alpha), flow(MLPField(2, (4,)))])
    margin = alpha / (1 - 2 * alpha)
    points, area = grid(-margin, 1 + margin, 120)
    with torch.no_grad():
        density = FlowDistribution(model, (2,)).log_prob(points).exp()
    assert abs(float(density.sum()) * area - 1) < 0.01
