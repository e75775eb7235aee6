"""The state at any time of a solve: right, of the stated order, and differentiable."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    Euler,
    FixedStep,
    ODEProblem,
    Solution,
    Solver,
    Tsit5,
    solve,
)
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import (
    ALGORITHMS,
    EMBEDDED,
    FORWARD,
    REVERSED,
    SENSITIVITIES,
    RigidBody,
    Span,
    float64,
    measured_order,
    relative_error,
)

EACH_ALGORITHM = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
EACH_SENSITIVITY = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
EACH_WAY = pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "reversed"])
TIGHT = AdaptiveStep(1e-10, 1e-10)
STEPPINGS = [
    (RK4(), FixedStep(1 / 32)),
    (Dopri8(), FixedStep(1 / 8)),
    (Dopri5(), TIGHT),
    (Dopri8(), TIGHT),
]
EACH_STEPPING = pytest.mark.parametrize(("algorithm", "stepping"), STEPPINGS, ids=str)
BODY = RigidBody()
INSIDE = [0.123, 0.777, 0.5, 0.123]


class Fading:
    """x' = -w t x, so that x(t) = x0 exp(w (t0² - t²) / 2)."""

    def __init__(self) -> None:
        self.w = float64(0.7).requires_grad_()
        self.x0 = float64([[1.0, 2.0], [3.0, -4.0]]).requires_grad_()

    def problem(self, span: Span = FORWARD) -> ODEProblem:
        return ODEProblem(lambda t, x: -self.w * t * x, self.x0, span)

    def exact(self, t: Tensor, start: float = 0.0) -> Tensor:
        return torch.exp(self.w * (start**2 - t.square()) / 2)[..., None, None] * self.x0

    def slope(self, t: Tensor) -> Tensor:
        return -self.w * t[..., None, None] * self.exact(t)


def solved(solver: Solver | None = None, span: Span = FORWARD) -> Solution:
    return solve(Fading().problem(span), solver or Solver(Tsit5(), AdaptiveStep(1e-8, 1e-8)))


@EACH_ALGORITHM
@EACH_WAY
def test_order_between_the_steps(algorithm: ExplicitRungeKutta, span: Span) -> None:
    """States in between converge at the interpolant's order and one, as far as the method does."""
    wanted = min(algorithm.order, algorithm.interpolation_order + 1)
    counts = (12, 18, 27, 40) if algorithm.order <= 5 else (4, 6, 9)
    counts = (2, 3, 4) if algorithm.order > 8 else counts
    times = [0.111, 0.345, 0.789]
    exact = torch.stack([BODY.exact(t) for t in times])
    errors = []
    for count in counts:
        solution = solve(BODY.problem(span), Solver(algorithm, FixedStep(1 / count)))
        errors.append(float((solution(times) - exact).norm()))
    assert measured_order(errors, counts) > wanted - 0.4


@EACH_ALGORITHM
def test_order_within_one_step(algorithm: ExplicitRungeKutta) -> None:
    """The interpolant's own order: the error within one first step."""
    shares = (20, 30, 40, 60) if algorithm.order <= 5 else (14, 20, 28)
    shares = (6, 8, 10) if algorithm.order > 8 else shares
    errors = []
    for share in shares:
        length = 5.0 / share
        problem = BODY.problem((0.2, 0.2 + length))
        states = solve(problem, Solver(algorithm, FixedStep(length)))
        assert len(states.steps) == 1
        t = 0.2 + 0.4 * length
        errors.append(float((states(t) - BODY.exact(t)).norm()))
    least = min(algorithm.order, algorithm.interpolation_order) + 1
    assert measured_order(errors, shares) > least - 0.7


@EACH_SENSITIVITY
@EACH_STEPPING
@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", ["number", "times", "samples"])
def test_gradients(
    kind: str,
    algorithm: ExplicitRungeKutta,
    stepping: FixedStep | AdaptiveStep,
    sensitivity: Sensitivity,
) -> None:
    """Of a state and of a slope, with respect to start, parameter and time, by closed forms."""
    fading = Fading()
    solution = solve(fading.problem(), Solver(algorithm, stepping, sensitivity))
    t = float64({"number": 0.3, "times": [0.6, 0.3, 0.9], "samples": [0.9, 0.2]}[kind])
    t.requires_grad_()
    own = kind == "samples"
    wanted = (fading.x0, fading.w, t)
    for got, exact in (
        (solution(t, per_sample=own), fading.exact(t)),
        (solution.derivative(t, per_sample=own), fading.slope(t)),
    ):
        if own:
            exact = exact[[0, 1], [0, 1]]
        assert got.shape == exact.shape
        assert relative_error(got, exact) < 2e-8
        pairs = zip(
            torch.autograd.grad(got.square().sum(), wanted, retain_graph=True),
            torch.autograd.grad(exact.square().sum(), wanted),
            strict=True,
        )
        assert all(relative_error(ours, closed) < 1e-6 for ours, closed in pairs)


@EACH_SENSITIVITY
def test_saved_states_and_read_ones_are_the_same(sensitivity: Sensitivity) -> None:
    problem = Fading().problem()
    saved = solve(problem, Solver(Tsit5(), FixedStep(0.1), sensitivity), save_at=[0.123, 0.5, 0.9])
    plain = solve(problem, Solver(Tsit5(), FixedStep(0.1), sensitivity))
    for solution in (saved, plain):
        assert torch.equal(solution([0.9, 0.123, 0.5, 0.9]), saved.x[[2, 0, 1, 2]])
    with torch.no_grad():
        again = solve(problem, Solver(Tsit5(), FixedStep(0.1), sensitivity))
        assert torch.equal(again(0.5), saved.x[1])


@EACH_ALGORITHM
@EACH_WAY
def test_ends_steps_and_order_of_times(algorithm: ExplicitRungeKutta, span: Span) -> None:
    solution = solved(Solver(algorithm, FixedStep(0.25)), span)
    assert torch.equal(solution(list(span)), solution.x)
    assert torch.equal(solution(INSIDE)[0], solution(INSIDE)[3])
    assert torch.equal(solution(INSIDE)[1], solution(0.777))
    # Continuous over the end of a step.
    assert torch.allclose(solution(0.5 - 1e-9), solution(0.5 + 1e-9), atol=1e-7)


def test_the_derivative_is_that_of_the_state() -> None:
    solution, t, h = solved(Solver(Dopri8(), TIGHT)), torch.tensor(0.437, dtype=torch.float64), 1e-4
    differences = (solution(t + h) - solution(t - h)) / (2 * h)
    assert torch.allclose(solution.derivative(t), differences, atol=1e-6)


@pytest.mark.parametrize("kind", [float, float64, lambda t: torch.tensor(t), lambda t: [t]])
def test_kinds_of_times(kind: Callable[[float], object]) -> None:
    exact = Fading().exact(float64(0.25))
    assert torch.allclose(solved()(kind(0.25)).squeeze(0).reshape(2, 2), exact, atol=1e-6)


def test_unpacking() -> None:
    solution = solve(Fading().problem(), save_at=[0.1, 0.2, 0.3])
    t, x = solution
    assert t is solution.t
    assert x is solution.x
    pairs = list(zip(*solution, strict=True))
    assert len(pairs) == 3
    assert torch.equal(pairs[1][1], x[1])


REFUSED = {
    "after the end": (lambda s: s(1.1), ValueError, "solved from 0 to 1"),
    "before the start": (lambda s: s([0.5, -0.1]), ValueError, "solved from 0 to 1"),
    "not a number": (lambda s: s(math.nan), ValueError, "solved from"),
    "a word": (lambda s: s("0.5"), TypeError, "list of times"),
    "no times": (lambda s: s([]), ValueError, "empty"),
    "a table": (lambda s: s(torch.zeros(2, 2)), TypeError, "list of times"),
    "one for all samples": (lambda s: s(0.5, per_sample=True), ValueError, "each of the 2"),
    "too many samples": (lambda s: s([0.1] * 3, per_sample=True), ValueError, "each of the 2"),
    "slope outside": (lambda s: s.derivative(2.0), ValueError, "solved from"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), BacksolveAdjoint()], ids=str)
def test_refused(name: str, sensitivity: Sensitivity) -> None:
    ask, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        ask(solved(Solver(sensitivity=sensitivity)))


class Changing:
    """A field that something changes between the solve and its reading."""

    def __init__(self) -> None:
        self.rate = 1.0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.rate * x


@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=str)
def test_a_field_that_was_changed_is_noticed(sensitivity: Sensitivity) -> None:
    """Where it has to be evaluated; what the kept steps tell is what was solved."""
    field = Changing()
    problem = ODEProblem(field, torch.ones(1, 1, requires_grad=True), FORWARD)
    solution = solve(problem, Solver(Dopri8(), FixedStep(0.5), sensitivity))
    before = solution(0.3)
    field.rate = 2.0
    with pytest.raises(RuntimeError, match="not the one that was solved"):
        solution(0.3)
    with pytest.raises(RuntimeError, match="not the one that was solved"):
        solution.derivative(0.3)
    field.rate = 1.0
    assert torch.equal(solution(0.3), before)


def test_kept_steps_do_not_ask_the_field() -> None:
    field = Changing()
    solution = solve(ODEProblem(field, torch.ones(1, 1), FORWARD), Solver(Tsit5(), FixedStep(0.5)))
    nfe, before = solution.stats.nfe, solution(0.3)
    field.rate = 2.0
    assert torch.equal(solution(0.3), before)
    assert solution.stats.nfe == nfe


def test_what_was_solved_without_a_graph_is_read_without_one() -> None:
    fading = Fading()
    with torch.no_grad():
        solution = solve(fading.problem(), Solver(Dopri8()))
    assert not solution(0.3).requires_grad
    assert not solution.derivative(0.3).requires_grad


@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
@EACH_WAY
def test_steps(algorithm: ExplicitRungeKutta, span: Span) -> None:
    stepping = AdaptiveStep(1e-6, 1e-6, first_step=1.0)
    problem = ODEProblem(lambda t, x: torch.cos(20 * t) * x, torch.ones(1, 1).double(), span)
    solution = solve(problem, Solver(algorithm, stepping))
    steps, stats = solution.steps, solution.stats
    assert len(steps) == stats.accepted + stats.rejected
    assert int((~steps.accepted).sum()) == stats.rejected > 0
    assert all(step.accepted == (step.error <= 1.0) for step in steps)
    taken = steps.dt[steps.accepted]
    assert float(taken.sum()) == pytest.approx(span[1] - span[0])
    assert torch.allclose(steps.t[steps.accepted], span[0] + taken.cumsum(0) - taken)
    solution(0.5)
    assert len(solution.steps) == len(steps)


@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=str)
def test_where_every_sample_steps_by_itself(sensitivity: Sensitivity) -> None:
    """It is solved once more, and what is counted is counted once."""
    fading = Fading()
    stepping = AdaptiveStep(1e-9, 1e-9, per_sample=True)
    solution = solve(fading.problem(), Solver(Dopri5(), stepping, sensitivity))
    before = copy.deepcopy(solution.stats)
    t = float64([0.7, 0.2]).requires_grad_()
    got, exact = solution(t), fading.exact(t)
    assert relative_error(got, exact) < 1e-7
    for ours, closed in zip(
        torch.autograd.grad(got.sum(), (fading.x0, t)),
        torch.autograd.grad(exact.sum(), (fading.x0, t)),
        strict=True,
    ):
        assert relative_error(ours, closed) < 1e-6
    for name in ("accepted", "rejected", "accepted_per_sample", "rejected_per_sample"):
        assert torch.equal(*(torch.as_tensor(getattr(s, name)) for s in (before, solution.stats)))
    with pytest.raises(ValueError, match="steps of its own"):
        _ = solution.steps


@EACH_SENSITIVITY
def test_steps_are_those_of_the_solve_alone(sensitivity: Sensitivity) -> None:
    """Neither those of its gradient nor those of a second solve."""
    solution = solved(Solver(Euler(), FixedStep(0.25), sensitivity))
    solution(0.3).sum().backward()
    assert [step.t for step in solution.steps] == [0.0, 0.25, 0.5, 0.75]
    assert all(math.isnan(step.error) and step.accepted for step in solution.steps)
    assert solution.stats.accepted == 4
