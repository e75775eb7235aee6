"""Events: when they happen, what happens then, and the gradient of both."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveHeun,
    AdaptiveStep,
    Algorithm,
    DiscreteAdjoint,
    Dopri8,
    Event,
    FixedStep,
    MaxStepsError,
    NonFiniteStateError,
    ODEProblem,
    Rosenbrock23,
    Sensitivity,
    Solver,
    Tsit5,
    Vern7,
    solve,
)
from tests.numerics.cases import ALGORITHMS, STIFF, float64

G = 9.81
TIGHT = Solver(Tsit5(), AdaptiveStep(1e-9, 1e-9))


def fall(t: Tensor, x: Tensor) -> Tensor:
    return torch.stack([x[:, 1], torch.full_like(x[:, 1], -G)], 1)


def swing(t: Tensor, x: Tensor) -> Tensor:
    return torch.stack([x[:, 1], -x[:, 0]], 1)


def height(t: Tensor, x: Tensor) -> Tensor:
    return x[:, 0]


def dropped(heights: Tensor, end: float = 10.0) -> ODEProblem:
    return ODEProblem(fall, torch.stack([heights, torch.zeros_like(heights)], 1), (0.0, end))


SOLVERS = [
    pytest.param(
        Solver(a, AdaptiveStep(1e-3, 1e-3) if a.embedded_order else FixedStep(0.5)),
        marks=() if a in (AdaptiveHeun(), RK4(), Tsit5(), Vern7(), Dopri8()) else pytest.mark.slow,
    )
    for a in ALGORITHMS
    if a.order > 1
]
SOLVERS += [Solver(a, AdaptiveStep(1e-3, 1e-3)) for a in STIFF]
SOLVERS += [Solver(a, FixedStep(0.7)) for a in (Tsit5(), Rosenbrock23())]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: f"{s.algorithm}-{s.stepping}"[:24])
def test_a_falling_ball_lands_when_it_should(solver) -> None:
    heights = float64([20.0, 5.0, 1000.0]).requires_grad_()
    ground = Event(height, direction=-1)
    solution = solve(dropped(heights), solver, save_at=[0.5, 1.5, 10.0], events=[ground])
    (times,), (states,) = solution.event_times, solution.event_states
    wanted = torch.sqrt(2 * heights / G)
    torch.testing.assert_close(times[:2], wanted[:2], rtol=1e-10, atol=1e-10)
    assert torch.isnan(times[2])
    assert torch.isnan(states[2]).all()
    # Each is frozen where it landed; the one that did not land goes on.
    torch.testing.assert_close(solution.x[-1, :2], states[:2])
    torch.testing.assert_close(solution.x[1, 1], states[1])
    torch.testing.assert_close(solution.x[-1, 2, 0], heights[2] - G * 50)
    for ours, theirs in ((times[:2], wanted[:2]), (solution.x[-1, :2, 1], -G * wanted[:2])):
        (got,) = torch.autograd.grad(ours.sum(), heights, retain_graph=True)
        (closed,) = torch.autograd.grad(theirs.sum(), heights, retain_graph=True)
        torch.testing.assert_close(got, closed, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stepping", [AdaptiveStep(1e-8, 1e-8), FixedStep(0.4)], ids=["a", "f"])
def test_a_bouncing_ball(stepping) -> None:
    heights, kept = float64([20.0, 31.0]).requires_grad_(), float64(0.8).requires_grad_()

    def bounce(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), -kept * x[:, 1]], 1)

    floor = Event(height, direction=-1, apply=bounce)
    solution = solve(dropped(heights), Solver(Tsit5(), stepping), events=floor)
    wanted, speed = [torch.sqrt(2 * heights / G)], torch.sqrt(2 * heights * G)
    for _ in range(2):
        speed = kept * speed
        wanted.append(wanted[-1] + 2 * speed / G)
    times, closed = solution.event_times[0][:3], torch.stack(wanted)
    torch.testing.assert_close(times, closed, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(
        torch.autograd.grad(times.sum(), [heights, kept], retain_graph=True),
        torch.autograd.grad(closed.sum(), [heights, kept], retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    # After the last bounce within the span, the state at its end and its gradient.
    speed, rest = kept * speed[1], 10.0 - closed[2, 1]
    last = speed * rest - G / 2 * rest**2
    torch.testing.assert_close(solution.x[-1, 1, 0], last, rtol=1e-9, atol=1e-9)
    ours, theirs = (torch.autograd.grad(v, kept)[0] for v in (solution.x[-1, 1, 0], last))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("direction", [-1, 0, 1])
@pytest.mark.parametrize("span", [(0.3, 8.0), (8.0, 0.3)], ids=["forward", "backwards"])
def test_all_crossings_are_those_of_scipy(span, direction) -> None:
    start = [math.sin(span[0]), math.cos(span[0])]

    def theirs(t: float, x: np.ndarray) -> float:
        return x[0] - 0.1 * t + 0.5

    theirs.direction = direction  # type: ignore[attr-defined]
    wanted = solve_ivp(
        lambda t, x: [x[1], -x[0]], span, start, events=theirs, rtol=1e-10, atol=1e-11, max_step=0.1
    ).t_events[0]
    crossing = Event(lambda t, x: x[:, 0] - 0.1 * t + 0.5, False, direction)
    problem = ODEProblem(swing, float64([start, [0.0, 0.0]]), span)
    together = solve(problem, Solver(Tsit5(), AdaptiveStep(1e-9, 1e-9)), events=[crossing])
    np.testing.assert_allclose(
        together.event_times[0][:, 0].numpy()[: len(wanted)], wanted, atol=1e-8
    )
    # What is only noted changes nothing.
    plain = solve(problem, Solver(Tsit5(), AdaptiveStep(1e-9, 1e-9, per_sample=True)))
    torch.testing.assert_close(together.x, plain.x, rtol=0, atol=0)


class Driven:
    """A pendulum that is pushed, with a wall that moves: parameters in field, condition, apply."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        push = self.values[0] * torch.cos(2 * t)
        return torch.stack([x[:, 1], push - torch.sin(x[:, 0])], 1)

    def gap(self, t: Tensor, x: Tensor) -> Tensor:
        return self.values[1] + 0.05 * torch.sin(t) - x[:, 0]

    def rebound(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], -self.values[2] * x[:, 1] - 0.1 * t], 1)

    def events(self) -> list[Event]:
        wall = Event(self.gap, direction=-1, apply=self.rebound)
        noted = Event(lambda t, x: x[:, 1] + 0.3 * x[:, 0], terminate=False)
        far = Event(lambda t, x: x[:, 0] + self.values[0])
        return [wall, noted, far]


def driven(
    inputs: Tensor,
    stepping,
    sensitivity: Sensitivity | None = None,
    algorithm: Algorithm | None = None,
) -> Tensor:
    """Every number that a solve with three events returns, as one vector."""
    solver = Solver(algorithm or Tsit5(), stepping, sensitivity or DiscreteAdjoint())
    field, start = Driven(inputs[:3]), inputs[3:].view(3, 2)
    problem = ODEProblem(field, start, (0.0, 4.0))
    times = [1.0, 2.5, 4.0]
    solution = solve(problem, solver, save_at=times, events=field.events())
    parts = [solution.x, *solution.event_times, *solution.event_states]
    assert all(bool(t.isfinite().any()) for t in solution.event_times)
    return torch.cat([part.nan_to_num(0.0).flatten() for part in parts])


@pytest.mark.parametrize(
    "stepping",
    [
        pytest.param(AdaptiveStep(1e-9, 1e-9), id="a", marks=pytest.mark.slow),
        pytest.param(FixedStep(0.1), id="f"),
    ],
)
def test_gradients_are_those_of_finite_differences(stepping) -> None:
    """Of the saved states, and of the times and states of all events, those after others too."""
    inputs = float64([1.2, 0.4, 0.9, 0.1, 0.3, -0.5, 0.0, 0.2, 1.5])
    result = driven(inputs.requires_grad_(), stepping)
    weights = torch.linspace(-1.0, 2.0, len(result), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * result).sum(), inputs)
    draw = torch.Generator().manual_seed(0)
    for _ in range(3):
        along = torch.randn(len(inputs), generator=draw, dtype=torch.float64)
        with torch.no_grad():
            ahead, behind = (driven(inputs + h * along, stepping) for h in (1e-5, -1e-5))
        wanted = (weights * (ahead - behind)).sum() / 2e-5
        # Events are on the interpolant, whose slope is the field to the steps' accuracy only.
        torch.testing.assert_close(gradient @ along, wanted, rtol=1e-5, atol=1e-5)


def flips(axis: int):
    def flip(t: Tensor, x: Tensor) -> Tensor:
        sign = torch.ones(4, dtype=x.dtype)
        sign[2 + axis] = -1
        return x * sign

    return flip


@pytest.mark.parametrize("stepping", [AdaptiveStep(), FixedStep(0.3)], ids=["a", "f"])
def test_two_walls_at_once(stepping) -> None:
    walls = [
        Event(lambda t, x, axis=axis: 1 - x[:, axis].abs(), direction=-1, apply=flips(axis))
        for axis in (0, 1)
    ]
    start = float64([[0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 1.0, 0.3]])
    problem = ODEProblem(lambda t, x: torch.cat([x[:, 2:], 0 * x[:, 2:]], 1), start, (0.0, 6.5))
    solution = solve(problem, Solver(Tsit5(), stepping), events=walls)
    first, second = solution.event_times
    torch.testing.assert_close(first, float64([[1.0, 1.0], [3.0, 3.0], [5.0, 5.0]]))
    torch.testing.assert_close(second[:, 0], float64([1.0, 3.0, 5.0]))
    torch.testing.assert_close(second[0, 1], float64(5 / 3))
    end = float64([[-0.5, -0.5, -1.0, -1.0], [-0.5, -0.45, -1.0, -0.3]])
    torch.testing.assert_close(solution.x[-1], end)


def test_a_start_on_the_event_is_none() -> None:
    """A ball that is thrown up from the ground lands once, and not when it is thrown."""
    problem = ODEProblem(fall, float64([[0.0, 5.0]]), (0.0, 10.0))
    for ground in (Event(height), Event(height, direction=-1)):
        (time,) = solve(problem, TIGHT, events=[ground]).event_times
        torch.testing.assert_close(time, float64([10 / G]), rtol=1e-10, atol=0)


def test_no_event_is_an_answer() -> None:
    solution = solve(
        dropped(float64([20.0]), 1.0),
        events=[Event(height), Event(height, terminate=False)],
    )
    ended, noted = solution.event_times
    assert torch.isnan(ended).all()
    assert noted.shape == (0, 1)
    assert solution.event_states[1].shape == (0, 1, 2)
    assert solve(dropped(float64([20.0]), 1.0)).event_times == ()


def test_a_ball_that_comes_to_rest_is_told_of() -> None:
    floor = Event(height, direction=-1, apply=lambda t, x: torch.stack([0 * t, -0.5 * x[:, 1]], 1))
    solver = Solver(Tsit5(), AdaptiveStep(1e-6, 1e-6, max_steps=60))
    with pytest.raises(MaxStepsError, match="ever sooner"):
        solve(dropped(float64([5.0])), solver, events=[floor])


def test_second_derivatives_are_refused() -> None:
    heights = float64([5.0]).requires_grad_()
    (time,) = solve(dropped(heights), events=[Event(height)]).event_times
    (by_height,) = torch.autograd.grad(time.sum(), heights, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives"):
        by_height.sum().backward()


def test_in_float32_as_far_as_that_goes() -> None:
    (time,) = solve(dropped(torch.tensor([20.0])), events=[Event(height)]).event_times
    assert time.dtype is torch.float32
    torch.testing.assert_close(time, torch.tensor([math.sqrt(40 / G)]), rtol=1e-5, atol=0)


WRONG = {
    "shape": (lambda t, x: x, ValueError, "one number a sample"),
    "scalar": (lambda t, x: x[:, 0].sum(), ValueError, "one number a sample"),
    "bool": (lambda t, x: x[:, 0] > 0, TypeError, "floating tensor"),
    "float": (lambda t, x: 1.0, TypeError, "floating tensor"),
    "nan": (lambda t, x: torch.sqrt(x[:, 0] - 10), NonFiniteStateError, "not a number"),
    "index": (lambda t, x: x[:, 7], ValueError, "a batch of both"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_condition_is_told_in_a_sentence(name) -> None:
    condition, kind, says = WRONG[name]
    with pytest.raises(kind, match=says):
        solve(dropped(float64([20.0, 30.0])), TIGHT, events=[Event(condition)])


def test_a_wrong_event_is_told_in_a_sentence() -> None:
    for direction in (2, True, "down", None):
        with pytest.raises(ValueError, match="write 1"):
            Event(height, direction=direction)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="write a function"):
        Event(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="leave one of them out"):
        Event(height, terminate=True, apply=lambda t, x: x)
    with pytest.raises(TypeError, match="write a list"):
        solve(dropped(float64([5.0])), events=[height])  # type: ignore[list-item]
    shrinks = Event(height, apply=lambda t, x: x[:, :1])
    with pytest.raises(ValueError, match="the state to go on from"):
        solve(dropped(float64([5.0])), events=[shrinks])


def test_a_time_that_wants_a_gradient_is_refused() -> None:
    end = float64(10.0).requires_grad_()
    problem = ODEProblem(fall, float64([[5.0, 0.0]]), (0.0, end))
    with pytest.raises(ValueError, match="detach"):
        solve(problem, events=[Event(height)])


def test_rk4_by_name_of_its_order_finds_a_root_of_its_interpolant() -> None:
    problem = ODEProblem(swing, float64([[1.0, 0.0], [2.0, 0.1]]), (0.0, 3.0))
    (times,) = solve(problem, Solver(RK4(), FixedStep(0.02)), events=Event(height)).event_times
    wanted = float64([math.pi / 2, math.pi / 2 + math.atan2(0.1, 2.0)])
    torch.testing.assert_close(times, wanted, rtol=1e-7, atol=0)


def test_under_discrete_adjoint_only_what_is_asked_for_is_evaluated() -> None:
    """Looking for events costs no evaluation of the field where none is found."""
    away = Event(lambda t, x: x[:, 0] + 1e6)
    with_events = solve(dropped(float64([5.0])), events=[away]).stats
    plain = solve(dropped(float64([5.0])), Solver(Tsit5(), AdaptiveStep(per_sample=True))).stats
    assert with_events.nfe == plain.nfe
    assert isinstance(Solver().sensitivity, DiscreteAdjoint)
