"""The gap between n and 2n steps: its size, its order, and that looking changes nothing."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    ConvField,
    Euler,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    Midpoint,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
)
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.refinement import refine, set_step_count, step_count
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from tests.flows.cases import FINE, randomize

SEED = 5


class Constant(nn.Module):
    """A field that every solver solves in one step."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.ones_like(x)


def block(
    field: Callable,
    steps: int,
    algorithm: ExplicitRungeKutta | None = None,
    end_time: float = 1.0,
) -> RegularizedFlow:
    solver = Solver(algorithm or RK4(), FixedStep(end_time / steps))
    return RegularizedFlow(
        field, solver, HutchinsonDivergence(), end_time=end_time, eval_solver=FINE
    )


def vectors(steps: int, algorithm: ExplicitRungeKutta | None = None) -> MultiscaleFlow:
    """A split, an end time other than 1, and a first block that no one looks at."""
    fields = [randomize(MLPField(size, (6,))) for size in (4, 4, 2)]
    flows = [
        block(field, steps, algorithm, end_time)
        for field, end_time in zip(fields, (1.0, 0.7, 1.5), strict=True)
    ]
    return MultiscaleFlow((4,), [Scale(flows[:2], split=True), Scale(flows[2:])])


def images(steps: int, algorithm: ExplicitRungeKutta | None = None) -> MultiscaleFlow:
    flows = [block(randomize(ConvField(c, (3,)), 0.3), steps, algorithm) for c in (1, 4, 2)]
    scales = [Scale(flows[:1], flows[1:2], squeeze=True, split=True), Scale(flows[2:])]
    return MultiscaleFlow((1, 4, 4), scales)


every_flow = pytest.mark.parametrize("make", [vectors, images])


def data(model: MultiscaleFlow) -> Tensor:
    return torch.randn(3, *model.event_shape)


@pytest.mark.parametrize("end_time", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 49])
def test_steps_are_counted_as_they_were_set(steps: int, end_time: float) -> None:
    flow = block(Constant(), 4, end_time=end_time)
    set_step_count(flow, steps)
    flow(torch.zeros(1, 2))
    assert step_count(flow) == flow.stats.accepted == steps


def test_adaptive_steps_cannot_be_counted() -> None:
    with pytest.raises(TypeError, match=r"AdaptiveStep.*only fixed steps"):
        step_count(RegularizedFlow(Constant()))


def test_a_constant_field_has_no_gap() -> None:
    flows = [block(Constant(), 1), block(Constant(), 3)]
    model = MultiscaleFlow((2,), [Scale(flows)])
    found = refine(model, data(model), flows, SEED)
    assert found.gaps == pytest.approx([0.0, 0.0], abs=1e-14)


@every_flow
@pytest.mark.parametrize(("algorithm", "order"), [(Euler(), 1), (Midpoint(), 2), (RK4(), 4)])
def test_each_gap_falls_with_the_algorithms_order(
    make: Callable[..., MultiscaleFlow], algorithm: ExplicitRungeKutta, order: int
) -> None:
    model = make(4, algorithm)
    x = data(model)

    def gaps() -> Tensor:
        return torch.tensor(refine(model, x, model.blocks, SEED).gaps)

    before = gaps()
    for flow in model.blocks:
        set_step_count(flow, 2 * step_count(flow))
    rates = torch.log2(before / gaps())
    assert before.min() > 0
    torch.testing.assert_close(rates, torch.full_like(rates, order), rtol=0, atol=0.45)


def test_the_gap_of_one_euler_step_is_the_one_known_in_closed_form() -> None:
    """For dx/dt = −c x: log det −c at any step, z = (1 − c) x and (1 − c/2)² x."""
    c = 0.8
    flow = RegularizedFlow(lambda t, x: -c * x, Solver(Euler(), FixedStep(1.0)), ExactDivergence())
    model = MultiscaleFlow((2,), [Scale([flow])])
    x = data(model)
    moved = 0.5 * ((1 - c) ** 2 - (1 - c / 2) ** 4) * x.square().sum(1)
    assert refine(model, x, [flow], SEED).gaps == pytest.approx([moved.abs().mean().item()])


def log_prob(model: MultiscaleFlow, x: Tensor, steps: int) -> Tensor:
    """Log-density at so many steps a block, each block with the noise of the seed."""
    for flow in model.blocks:
        set_step_count(flow, steps)
    reseed = [
        flow.register_forward_pre_hook(lambda *_: torch.manual_seed(SEED) and None)
        for flow in model.blocks
    ]
    result = model(x)
    for hook in reseed:
        hook.remove()
    return standard_normal_log_prob(result.z) + result.log_det


@every_flow
def test_log_prob_is_that_of_twice_the_steps(make: Callable[..., MultiscaleFlow]) -> None:
    model = make(2)
    x = data(model)
    found = refine(model, x, model.blocks, SEED)
    torch.testing.assert_close(found.log_prob, log_prob(model, x, 4))


@every_flow
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gaps_sum_to_what_twice_the_steps_change_of_log_p(
    make: Callable[..., MultiscaleFlow], steps: int
) -> None:
    model = make(steps)
    x = data(model)
    gaps = refine(model, x, model.blocks, SEED).gaps
    whole = (log_prob(model, x, steps) - log_prob(model, x, 2 * steps)).abs().mean().item()
    assert whole > 0
    assert sum(gaps) == pytest.approx(whole)
    assert min(gaps) > 0


def test_only_the_blocks_that_are_looked_at_are_refined() -> None:
    model = vectors(2)
    last = model.blocks[-1]
    seen: list[int] = []
    for flow in model.blocks:
        flow.register_forward_hook(lambda flow, *_: seen.append(flow.stats.accepted))  # type: ignore[arg-type]
    assert len(refine(model, data(model), [last], SEED).gaps) == 1
    assert seen == [2, 2, 2, 2, 2, 4]


@every_flow
@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_nothing(make: Callable[..., MultiscaleFlow], training: bool) -> None:
    model = make(3).train(training)
    x, state = data(model), torch.get_rng_state()
    solvers = [flow.solver for flow in model.blocks]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    found = refine(model, x, model.blocks, SEED)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(flow.training is training for flow in model.blocks)
    assert all(flow.solver is was for flow, was in zip(model.blocks, solvers, strict=True))
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(flow._forward_hooks or flow._forward_pre_hooks for flow in model.blocks)
    assert not found.log_prob.requires_grad


@pytest.mark.parametrize("looked_at", [[0, 1, 2], [2]])
def test_looking_twice_shows_the_same(looked_at: list[int]) -> None:
    """Blocks that are not looked at draw noise too."""
    model = vectors(2)
    x, blocks = data(model), [model.blocks[k] for k in looked_at]
    one = refine(model, x, blocks, SEED)
    torch.randn(7)
    again = refine(model, x, blocks, SEED)
    assert one.gaps == again.gaps
    assert torch.equal(one.log_prob, again.log_prob)


def growing(rate: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda t, x: rate * x


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_solve_that_breaks_down_is_an_infinite_gap(broken: int) -> None:
    fields = [growing(math.inf) if k == broken else growing(-0.1) for k in range(3)]
    flows = [block(field, 2) for field in fields]
    model = MultiscaleFlow((2,), [Scale(flows)])
    found = refine(model, data(model), flows, SEED)
    assert [math.isfinite(gap) for gap in found.gaps] == [k < broken for k in range(3)]
    assert found.log_prob.isnan().all()
    assert [step_count(flow) for flow in flows] == [2, 2, 2]


def test_a_coarse_solve_alone_that_breaks_down_is_an_infinite_gap() -> None:
    """From 1, one step of RK4 tries 1, −1, 3; two steps stay within 1."""

    def within_two(t: Tensor, x: Tensor) -> Tensor:
        return torch.where(x.abs() < 2, -4.0, math.nan) * x

    flow = block(within_two, 1)
    model = MultiscaleFlow((2,), [Scale([flow])])
    found = refine(model, torch.ones(2, 2), [flow], SEED)
    assert found.gaps == [math.inf]
    assert found.log_prob.isfinite().all()


def test_a_density_beyond_all_numbers_is_an_infinite_gap() -> None:
    """The state is finite, its square is not."""
    flow = block(growing(1.0), 1)
    model = MultiscaleFlow((2,), [Scale([flow])])
    assert refine(model, torch.full((2, 2), 1e160), [flow], SEED).gaps == [math.inf]
