"""Flow matching on Gaussian data, where field, loss and density are known in closed form."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    ConvField,
    Dopri5,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    Likelihood,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
)
from rnode_dyn.data import Event
from rnode_dyn.flows.straight_paths import Leg, legs
from rnode_dyn.training.objectives.flow_matching import FlowMatching, draw_times, exchanged
from tests.training.objectives.gaussian import OptimalField, least_loss, make_optimal

ACCURATE = Solver(Dopri5(), AdaptiveStep(1e-9, 1e-9))
TIMES = ["uniform", "stratified", "logit-normal"]


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


class Zero(nn.Module):
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def block(field: nn.Module | None = None, end_time: float = 1.0) -> RegularizedFlow:
    return RegularizedFlow(field or Zero(), ACCURATE, ExactDivergence(), end_time=end_time)


def one_block() -> MultiscaleFlow:
    return MultiscaleFlow((3,), [Scale([block(end_time=2.0)])])


def unsplit() -> MultiscaleFlow:
    return MultiscaleFlow((2,), [Scale([block(), block(end_time=0.5)])])


def vectors() -> MultiscaleFlow:
    """Two splits, and end times other than 1."""
    first, last = [block(), block(end_time=0.5)], [block(end_time=3.0)]
    return MultiscaleFlow(
        (4,), [Scale(first, split=True), Scale([block()], split=True), Scale(last)]
    )


def images() -> MultiscaleFlow:
    first = Scale([block()], [block(end_time=2.0)], squeeze=True, split=True)
    return MultiscaleFlow((1, 2, 4), [first, Scale([block()])])


every_stack = pytest.mark.parametrize("make", [one_block, unsplit, vectors, images])
every_pace = pytest.mark.parametrize("pace", [1.0, 1.5])
MakeStack = Callable[[], MultiscaleFlow]


def gaussian(model: MultiscaleFlow) -> MultivariateNormal:
    """Data whose coordinates hang together, and are neither centred nor of unit variance."""
    size = math.prod(model.event_shape)
    mix = torch.eye(size) + 0.4 * torch.randn(size, size)
    return MultivariateNormal(torch.randn(size), mix @ mix.T + 0.1 * torch.eye(size))


def event_of(model: MultiscaleFlow) -> Event:
    return Event(model.event_shape)


@every_pace
@every_stack
def test_the_optimal_fields_stack_has_the_datas_density(make: MakeStack, pace: float) -> None:
    model = make()
    data = gaussian(model)
    x = data.sample((6,))
    model = make_optimal(model, data, pace)
    found = FlowDistribution(model, model.event_shape).log_prob(x.view(6, *model.event_shape))
    torch.testing.assert_close(found, data.log_prob(x), rtol=0, atol=1e-6)


@every_pace
@every_stack
def test_what_leaves_at_a_split_is_standard_normal_and_independent_of_the_rest(
    make: MakeStack, pace: float
) -> None:
    """Every block is an affine map, so that mean and covariance at its end are known exactly."""
    model = make()
    data = gaussian(model)
    model = make_optimal(model, data, pace)
    size = math.prod(model.event_shape)
    mean, covariance = data.mean, data.covariance_matrix
    route = legs(model)
    for leg in route:
        points = torch.cat([mean[None], mean + torch.eye(size)])
        ends = leg.flow(points[:, leg.coordinates.flatten()].view(-1, *leg.coordinates.shape)).z
        moved = points.clone()
        moved[:, leg.coordinates.flatten()] = ends.flatten(1)
        slope = (moved[1:] - moved[0]).T
        mean, covariance = moved[0], slope @ covariance @ slope.T
        gone = (exits_of(model) <= leg.number + 1).nonzero().flatten()
        expected = torch.zeros(len(gone), size)
        expected[torch.arange(len(gone)), gone] = 1.0
        torch.testing.assert_close(covariance[gone], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(mean[gone], torch.zeros(len(gone)), rtol=0, atol=1e-6)
    torch.testing.assert_close(covariance, torch.eye(size), rtol=0, atol=1e-6)


def exits_of(model: MultiscaleFlow) -> Tensor:
    exits = torch.zeros(math.prod(model.event_shape))
    for leg in legs(model):
        exits[leg.coordinates] = leg.exits
    return exits


def mean_loss(
    model: MultiscaleFlow, data: MultivariateNormal, seed: int = 1, pace: float = 1.0
) -> float:
    torch.manual_seed(seed)
    x = data.sample((20_000,)).view(-1, *model.event_shape)
    return FlowMatching(pace=pace).loss(model, x, event_of(model)).value.item()


@every_pace
@every_stack
def test_the_optimal_fields_loss_is_the_conditional_variance(make: MakeStack, pace: float) -> None:
    model = make()
    data = gaussian(model)
    model = make_optimal(model, data, pace)
    assert mean_loss(model, data, pace=pace) == pytest.approx(least_loss(model), rel=0.03)


def test_the_conditional_variance_of_one_coordinate_is_in_the_books() -> None:
    """Of a ~ N(μ, σ²): σ²/((1 − u)² σ² + u²), whose integral over u in [0, 1] is πσ/2."""
    sigma = 0.6
    data = MultivariateNormal(torch.tensor([3.0]), torch.tensor([[sigma**2]]))
    model = make_optimal(MultiscaleFlow((1,), [Scale([block(end_time=0.7)])]), data)
    assert least_loss(model) == pytest.approx(math.pi * sigma / 2)
    assert mean_loss(model, data) == pytest.approx(math.pi * sigma / 2, rel=0.03)


class Perturbed(nn.Module):
    """A field that is off by so much, of the units that the loss is in."""

    def __init__(self, field: OptimalField, off: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.field, self.off = field, off

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        unit = (self.field.exits * self.field.end_time).view(x.shape[1:])
        return self.field(t, x) + self.off(t / self.field.end_time, x) / unit


@pytest.mark.one_in(2)
@every_stack
@pytest.mark.parametrize(
    "off",
    [
        lambda t, x: torch.full_like(x, 0.2),
        lambda t, x: -0.2 * x,
        lambda t, x: 0.3 * torch.sin(3 * x),
        lambda t, x: (t - 0.5).expand_as(x),
    ],
    ids=["constant", "linear", "wave", "in time"],
)
def test_any_other_field_has_the_greater_loss(
    make: MakeStack, off: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = make()
    data = gaussian(model)
    model = make_optimal(model, data)
    least = mean_loss(model, data)
    for flow in model.blocks:
        kept = flow.field
        assert isinstance(kept, OptimalField)
        flow.defunc.vf = Perturbed(kept, off)
        assert mean_loss(model, data) > least
        flow.defunc.vf = kept


def test_the_loss_of_a_field_at_rest_is_the_mean_square_of_the_paths() -> None:
    """E (z − a)² = 1 + μ² + σ², whatever the end times and exits: blocks count alike."""
    for make in (one_block, unsplit, vectors, images):
        model = make()
        size = math.prod(model.event_shape)
        data = MultivariateNormal(torch.full((size,), 2.0), 0.25 * torch.eye(size))
        assert mean_loss(model, data) == pytest.approx(1 + 4 + 0.25, rel=0.03)


def test_paths_begin_behind_the_preprocessing() -> None:
    model = MultiscaleFlow((2,), [Scale([block()])], preprocess=LogitTransform(0.25))
    u = torch.full((4000, 2), 0.9)
    a = math.log(0.7 / 0.3)
    value = FlowMatching().loss(model, u, event_of(model)).value.item()
    assert value == pytest.approx(1 + a**2, rel=0.05)


def test_every_parameter_learns_and_no_equation_is_solved() -> None:
    fields = [ConvField(1, (3,)), ConvField(4, (3,)), ConvField(2, (3,))]
    flows = [block(field) for field in fields]
    scales = [Scale(flows[:1], flows[1:2], squeeze=True, split=True), Scale(flows[2:])]
    model = MultiscaleFlow((1, 4, 4), scales)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    loss = FlowMatching().loss(model, torch.randn(5, 1, 4, 4), Event((1, 4, 4)))
    loss.value.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert not loss.figures["matching"].requires_grad
    assert [flow.stats.nfe for flow in flows] == [0, 0, 0]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_times_are_within_the_block_and_cover_it(times: str, dtype: torch.dtype) -> None:
    t = draw_times(times, torch.zeros(4000, 2, dtype=dtype))  # type: ignore[arg-type]
    assert t.shape == (4000,)
    assert t.dtype == dtype
    assert 0 <= t.min() < 0.05
    assert 0.95 < t.max() <= 1
    assert t.mean().item() == pytest.approx(0.5, abs=0.02)


def test_stratified_times_are_one_in_each_interval_and_in_no_order() -> None:
    t = draw_times("stratified", torch.zeros(64, 2))
    assert (t * 64).floor().sort().values.tolist() == list(range(64))
    assert not torch.equal(t, t.sort().values)


def test_logit_normal_times_prefer_the_middle() -> None:
    t = draw_times("logit-normal", torch.zeros(4000, 2))
    middle = ((t > 0.25) & (t < 0.75)).double().mean().item()
    # P(|N(0, 1)| < log 3)
    assert middle == pytest.approx(math.erf(math.log(3) / math.sqrt(2)), abs=0.03)


class AtTheStart(FlowMatching):
    """A subclass's times and route: data alone, and only the first block."""

    def draw_times(self, leg: Leg, data: Tensor) -> Tensor:
        return torch.zeros(len(data))

    def route(self, model: MultiscaleFlow, device: torch.device) -> list[Leg]:
        return super().route(model, device)[:1]


@pytest.mark.parametrize("coupling", ["independent", "minibatch-ot"])
def test_a_subclass_draws_times_and_lays_routes_of_its_own(coupling: Any) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Seeing(MLPField):
        def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
            seen.append((t, x))
            return super().forward(t, x)

    model = MultiscaleFlow((2,), [Scale([block(Seeing(2)), block(Seeing(2))])])
    u = torch.randn(6, 2)
    AtTheStart(coupling).loss(model, u, event_of(model))
    ((t, x),) = seen
    assert t.tolist() == [0.0] * 6
    assert torch.equal(x, u)


@pytest.mark.parametrize("pace", [0.9, 0.0, math.inf, math.nan])
def test_paces_that_cannot_be_walked_are_refused(pace: float) -> None:
    with pytest.raises(ValueError, match=f"pace is {pace}: .*write 1 or more"):
        FlowMatching(pace=pace)


@pytest.mark.parametrize("key", ["coupling", "times"])
def test_names_that_are_none_are_refused_with_the_choice(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key} is 'unifrom'; write one of '"):
        FlowMatching(**{key: "unifrom"})  # type: ignore[arg-type]


@every_stack
def test_exchanging_shortens_the_paths_and_keeps_the_noise(make: MakeStack) -> None:
    model = make()
    size, route = math.prod(model.event_shape), legs(model)
    data, noise = 2 * torch.randn(32, size), torch.randn(32, size)
    before = noise.clone()
    after = exchanged(data, noise, route)
    last = route[-1].coordinates.flatten()
    early = [d for d in range(size) if d not in last.tolist()]
    assert torch.equal(noise, before)
    assert torch.equal(after[:, early], noise[:, early])
    partners = [(noise[:, last] == row).all(1).nonzero().item() for row in after[:, last]]
    assert sorted(partners) == list(range(32))
    assert (data - after).square().sum() < (data - noise).square().sum()


def test_no_other_exchange_of_three_is_shorter() -> None:
    model = one_block()
    data, noise = torch.randn(3, 3), torch.randn(3, 3)
    found = (data - exchanged(data, noise, legs(model))).square().sum()
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    torch.testing.assert_close(found, min((data - noise[o]).square().sum() for o in orders))


def test_coupled_paths_are_straighter_to_learn() -> None:
    model = unsplit()
    data = gaussian(model)
    x = data.sample((256,))
    losses = [
        FlowMatching(coupling=coupling).loss(model, x, event_of(model)).value  # type: ignore[arg-type]
        for coupling in ("minibatch-ot", "independent")
    ]
    assert losses[0] < losses[1]


def fit(
    model: MultiscaleFlow, draw: Callable[[int], Tensor], updates: int, objective: FlowMatching
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        optimizer.zero_grad()
        objective.loss(model, draw(256), event_of(model)).value.backward()
        optimizer.step()
        schedule.step()


def state_at_split(model: MultiscaleFlow, x: Tensor) -> Tensor:
    """What leaves, and behind it what stays, of a flow with one split."""
    given: list[Tensor] = []
    hook = model.blocks[-1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))  # type: ignore[func-returns-value]
    z = model(x).z
    hook.remove()
    return torch.cat([z[:, : z.shape[1] // 2], given[0].flatten(1)], dim=1)


def check_split(model: MultiscaleFlow, x: Tensor, tolerance: float) -> None:
    """What leaves is standard normal, and neither it nor its square goes with what stays."""
    with torch.no_grad():
        state = state_at_split(model, x)
    half = state.shape[1] // 2
    leaves, stays = state[:, :half], (state[:, half:] - state[:, half:].mean(0))
    assert leaves.mean(0).abs().max() < tolerance
    torch.testing.assert_close(
        torch.atleast_2d(leaves.T.cov()), torch.eye(half), rtol=0, atol=2 * tolerance
    )
    together = torch.cat([leaves, leaves.square(), stays, stays.square()], dim=1).T.corrcoef()
    assert together[: 2 * half, 2 * half :].abs().max() < 2 * tolerance


@pytest.mark.parametrize("coupling", ["independent", "minibatch-ot"])
def test_a_trained_split_flow_has_the_density_of_a_mixture(coupling: str) -> None:
    """Two lumps on the diagonal: the coordinates hang together, and one of them leaves early."""
    torch.set_default_dtype(torch.float32)
    means = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    lumps = MultivariateNormal(means, 0.25 * torch.eye(2))
    truth = MixtureSameFamily(Categorical(torch.ones(2)), lumps)
    solver = Solver(RK4(), FixedStep(0.1))
    flows = [
        RegularizedFlow(
            MLPField(size, (48, 48), "tanh"), solver, ExactDivergence(), end_time=end_time
        )
        for size, end_time in ((2, 1.0), (1, 2.0))
    ]
    model = MultiscaleFlow((2,), [Scale(flows[:1], split=True), Scale(flows[1:])])
    fit(model, lambda n: truth.sample((n,)), 500, FlowMatching(coupling))  # type: ignore[arg-type]
    x = truth.sample((2000,))
    with torch.no_grad():
        found = FlowDistribution(model, (2,)).log_prob(x)
    # Nats that the model is worse by: its Kullback-Leibler divergence.
    assert -0.01 < (truth.log_prob(x) - found).mean().item() < 0.06
    check_split(model, x, 0.1)


@pytest.mark.slow
def test_a_trained_image_flow_has_the_density_of_its_gaussian() -> None:
    torch.set_default_dtype(torch.float32)
    places = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    smooth = torch.exp(-torch.cdist(places, places).square() / 4) + 0.2 * torch.eye(16)
    truth = MultivariateNormal(torch.linspace(-1, 1, 16), smooth)
    solver = Solver(RK4(), FixedStep(0.1))
    flows = [
        RegularizedFlow(ConvField(channels, (32, 32), "tanh"), solver, ExactDivergence())
        for channels in (1, 4, 2)
    ]
    scales = [Scale(flows[:1], flows[1:2], squeeze=True, split=True), Scale(flows[2:])]
    model = MultiscaleFlow((1, 4, 4), scales)
    fit(model, lambda n: truth.sample((n,)).view(n, 1, 4, 4), 1500, FlowMatching())
    x = truth.sample((1000,))
    with torch.no_grad():
        found = FlowDistribution(model, (1, 4, 4)).log_prob(x.view(-1, 1, 4, 4))
    assert abs((truth.log_prob(x) - found).mean().item()) / 16 < 0.05
    check_split(model, x.view(-1, 1, 4, 4), 0.15)


@pytest.mark.parametrize("objective", [FlowMatching(), Likelihood()])
def test_a_shape_in_place_of_an_event_is_refused(objective: FlowMatching | Likelihood) -> None:
    with pytest.raises(TypeError, match=r"event is \(2,\)"):
        objective.loss(RegularizedFlow(MLPField(2)), torch.randn(4, 2), (2,))  # type: ignore[arg-type]
