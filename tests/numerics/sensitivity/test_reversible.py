"""The reversible pair: the coupled steps written plainly, the way back, and where it is refused."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Bosh3,
    Dopri5,
    Euler,
    FixedStep,
    Heun,
    ODEProblem,
    ReversibleAdjoint,
    Solution,
    Solver,
    Tsit5,
    solve,
)
from rnode_dyn.numerics.algorithms.base import Algorithm
from tests.numerics.cases import (
    FORWARD,
    REVERSED,
    RigidBody,
    SmallField,
    Span,
    measured_order,
    relative_error,
    small_start,
)

ALGORITHMS = [Euler(), Heun(), Bosh3(), RK4(), Dopri5()]
INSIDE = (0.3, 0.8, 1.0)


class Mine(nn.Module):
    """A field with a parameter, of any dtype."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.7, dtype=dtype))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        return -self.rate * x.sin()


def coupled(
    algorithm: Algorithm, field: nn.Module, x: Tensor, times: list[float], strength: float
) -> Tensor:
    """The end of the pair, by the formulas of the paper and autograd."""

    def increment(t: float, h: float, x: Tensor) -> Tensor:
        return algorithm.advance(lambda t, x: field(x.new_tensor(t), x), t, h, x).x1 - x

    y = z = x
    for t, end in pairwise(times):
        y = strength * y + (1 - strength) * z + increment(t, end - t, z)
        z = z - increment(end, t - end, y)
    return y


def gradients(x: Tensor, x0: Tensor, field: nn.Module) -> Tensor:
    wanted = [x0, *(p for p in field.parameters() if p.requires_grad)]
    found = torch.autograd.grad(x.sin().sum(), wanted, allow_unused=True)
    return torch.cat([g.reshape(-1) for g in found if g is not None])


@pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "backward"])
@pytest.mark.parametrize("strength", [0.5, 0.99, 1.0])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_it_is_the_pair_of_the_paper(algorithm: Algorithm, strength: float, span: Span) -> None:
    field, x0 = SmallField(), small_start().requires_grad_()
    solver = Solver(algorithm, FixedStep(0.25), ReversibleAdjoint(strength))
    found = solve(ODEProblem(field, x0, span), solver).x[-1]
    times = torch.linspace(*span, 5, dtype=torch.float64).tolist()
    plain = coupled(algorithm, field, x0, times, strength)
    torch.testing.assert_close(found, plain, rtol=1e-13, atol=1e-13)
    got, wanted = gradients(found, x0, field), gradients(plain, x0, field)
    assert relative_error(got, wanted) < 1e-11


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_without_a_gradient_the_states_are_the_same(algorithm: Algorithm) -> None:
    problem = ODEProblem(SmallField(), small_start().requires_grad_(), FORWARD)
    solver = Solver(algorithm, FixedStep(0.25), ReversibleAdjoint())
    with torch.no_grad():
        without = solve(problem, solver, save_at=INSIDE).x
    assert torch.equal(without, solve(problem, solver, save_at=INSIDE).x)


def solved(stepping: FixedStep | AdaptiveStep, field: nn.Module, x0: Tensor) -> Solution:
    return solve(
        ODEProblem(field, x0, FORWARD), Solver(Tsit5(), stepping, ReversibleAdjoint()), INSIDE
    )


@pytest.mark.parametrize(
    "stepping",
    [FixedStep(0.25), AdaptiveStep(1e-4, 1e-4, first_step=1.0)],
    ids=["fixed", "adaptive"],
)
def test_saved_states_within_steps_against_finite_differences(stepping) -> None:
    field, x0 = SmallField(), small_start().requires_grad_()
    weights = torch.linspace(0.5, 1.5, 3 * x0.numel(), dtype=torch.float64).view(3, *x0.shape)
    solution = solved(stepping, field, x0)
    (solution.x * weights).sum().backward()
    if isinstance(stepping, AdaptiveStep):
        assert solution.stats.rejected > 0
    h = 1e-6
    for tensor in (x0, field.mix):
        direction = torch.linspace(-1, 1, tensor.numel(), dtype=torch.float64).view_as(tensor)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(direction, alpha=sign * h)
                # A grid held still: adaptive steps move with the weights, and are not followed.
                ends.append((solved(stepping, field, x0).x * weights).sum())
                tensor.sub_(direction, alpha=sign * h)
        assert tensor.grad is not None
        wanted = (ends[0] - ends[1]) / (2 * h)
        tolerance = 1e-7 if isinstance(stepping, FixedStep) else 1e-3
        torch.testing.assert_close((tensor.grad * direction).sum(), wanted, rtol=tolerance, atol=0)


@pytest.mark.parametrize("algorithm", [Heun(), Bosh3(), RK4(), Dopri5()], ids=str)
def test_the_order_is_that_of_the_algorithm(algorithm: Algorithm) -> None:
    body, counts = RigidBody(), [8, 16, 32]
    errors = {time: [] for time in (0.55, 1.0)}
    for count in counts:
        solver = Solver(algorithm, FixedStep(1 / count), ReversibleAdjoint())
        x = solve(body.problem(FORWARD), solver, save_at=list(errors)).x
        for state, time in zip(x, errors, strict=True):
            errors[time].append(float((state - body.exact(time)).norm()))
    for found in errors.values():
        assert measured_order(found, counts) > algorithm.order - 0.4


@pytest.mark.parametrize("strength", [0.9, 1.0])
def test_evaluations_are_those_of_two_steps_but_for_the_last(strength: float) -> None:
    problem = ODEProblem(Mine(), small_start().requires_grad_(), FORWARD)
    solution = solve(problem, Solver(RK4(), FixedStep(1 / 8), ReversibleAdjoint(strength)))
    solution.x[-1].sum().backward()
    stats = solution.stats
    assert (stats.nfe, stats.nfe_backward, stats.nvjp) == (60, 60, 60)


def test_a_field_that_draws_and_writes_is_found_as_at_the_first_time() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
            self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            self.calls += 1  # type: ignore[operator]
            return -self.rate * (x + torch.rand_like(x) + 0.1 * self.calls)

    x0, grads, fields = small_start().requires_grad_(), [], [Noisy(), Noisy()]
    for way, field in zip(("ours", "plain"), fields, strict=True):
        torch.manual_seed(4)
        if way == "ours":
            problem = ODEProblem(field, x0, FORWARD)
            x = solve(problem, Solver(RK4(), FixedStep(0.25), ReversibleAdjoint())).x[-1]
        else:
            x = coupled(RK4(), field, x0, [0.0, 0.25, 0.5, 0.75, 1.0], 0.99)
            fields[1].calls -= 4  # type: ignore[operator]  # the last pair's second state
        grads.append(gradients(x, x0, field))
    assert relative_error(grads[0], grads[1]) < 1e-11
    assert torch.equal(fields[0].calls, fields[1].calls)  # type: ignore[arg-type]


def test_a_way_back_that_rounding_has_lost_is_refused() -> None:
    x0 = small_start().float().requires_grad_()
    solver = Solver(RK4(), FixedStep(1 / 64), ReversibleAdjoint(0.6))
    x = solve(ODEProblem(Mine(torch.float32), x0, FORWARD), solver).x[-1]
    with pytest.raises(RuntimeError, match="did not come out where they began"):
        x.sum().backward()


def test_a_field_that_changes_unseen_is_refused() -> None:
    calls = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        calls.append(t)
        return -x * len(calls)

    problem = ODEProblem(field, small_start().requires_grad_(), FORWARD)
    x = solve(problem, Solver(RK4(), FixedStep(0.25), ReversibleAdjoint())).x[-1]
    with pytest.raises(RuntimeError, match="changes between two evaluations"):
        x.sum().backward()


def test_a_second_derivative_is_refused() -> None:
    x0 = small_start().requires_grad_()
    solver = Solver(RK4(), FixedStep(0.25), ReversibleAdjoint())
    x = solve(ODEProblem(Mine(), x0, FORWARD), solver).x[-1]
    (first,) = torch.autograd.grad(x.sum(), x0, create_graph=True)
    with pytest.raises(RuntimeError, match="ReversibleAdjoint computes first derivatives"):
        first.sum().backward()


@pytest.mark.parametrize("coupling", [0.0, -0.5, 1.01, float("nan")])
def test_a_coupling_without_a_way_back_is_refused(coupling: float) -> None:
    with pytest.raises(ValueError, match="write a number above 0"):
        ReversibleAdjoint(coupling)


@pytest.mark.parametrize("coupling", ["0.9", None, True])
def test_a_coupling_that_is_no_number_is_refused(coupling: object) -> None:
    with pytest.raises(TypeError, match="write a number"):
        ReversibleAdjoint(coupling)  # type: ignore[arg-type]
