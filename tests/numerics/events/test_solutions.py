"""Events in solutions that are read at any time, of structured states, and what is refused."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    AutoSwitch,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Event,
    FixedStep,
    ODEProblem,
    ReversibleAdjoint,
    Rosenbrock23,
    Solver,
    Tsit5,
    solve,
)
from tests.numerics.cases import float64

G = 9.81
TIGHT = Solver(Tsit5(), AdaptiveStep(1e-9, 1e-9))


def fall(t: Tensor, x: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"place": x["speed"], "speed": torch.full_like(x["speed"], -G)}


def dropped(heights: Tensor, end: float = 4.0) -> ODEProblem:
    return ODEProblem(fall, {"place": heights, "speed": torch.zeros_like(heights)}, (0.0, end))


def height(t: Tensor, x: dict[str, Tensor]) -> Tensor:
    return x["place"]


def bounce(t: Tensor, x: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"place": torch.zeros_like(x["place"]), "speed": -0.8 * x["speed"]}


def flat(problem: ODEProblem) -> ODEProblem:
    return ODEProblem(
        lambda t, x: torch.stack([x[:, 1], torch.full_like(x[:, 1], -G)], 1),
        torch.stack([problem.x0["place"], problem.x0["speed"]], 1),
        problem.t_span,
    )


@pytest.mark.parametrize("stepping", [AdaptiveStep(1e-9, 1e-9), FixedStep(0.3)], ids=["a", "f"])
@pytest.mark.parametrize("bounces", [False, True], ids=["ends", "bounces"])
def test_a_structured_state_is_that_of_one_tensor(stepping, bounces) -> None:
    solver, heights = Solver(Tsit5(), stepping), float64([20.0, 5.0, 1000.0])
    apply = (lambda t, x: torch.stack([0 * t, -0.8 * x[:, 1]], 1)) if bounces else None
    ours = Event(height, direction=-1, apply=bounce if bounces else None)
    theirs = Event(lambda t, x: x[:, 0], direction=-1, apply=apply)
    results, gradients = [], []
    for problem, event in ((dropped, ours), (lambda x: flat(dropped(x)), theirs)):
        start = heights.clone().requires_grad_()
        solution = solve(problem(start), solver, save_at=[1.5, 4.0], events=[event])
        (times,), (states,), x = solution.event_times, solution.event_states, solution.x
        if isinstance(x, dict):
            states, x = (torch.stack([s["place"], s["speed"]], -1) for s in (states, x))
        (gradient,) = torch.autograd.grad(x[1].sum() + times.nan_to_num().sum(), start)
        results.append((times, states, x))
        gradients.append(gradient)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    torch.testing.assert_close(*gradients)


def test_complex_leaves() -> None:
    """A phase that turns, and is told when it has come half way round."""
    start = {"phase": torch.ones(2, dtype=torch.complex128), "rate": float64([1.0, 2.0])}
    problem = ODEProblem(
        lambda t, x: {"phase": 1j * x["rate"] * x["phase"], "rate": 0 * x["rate"]}, start, (0, 4.0)
    )
    half = Event(lambda t, x: x["phase"].imag, direction=-1)
    solution = solve(problem, TIGHT, events=[half])
    torch.testing.assert_close(solution.event_times[0], torch.pi / start["rate"])
    torch.testing.assert_close(solution.event_states[0]["phase"], -start["phase"])


@pytest.mark.parametrize("save_at", [None, [0.5, 4.0]], ids=["ends", "saved"])
def test_the_solution_is_read_through_the_same_events(save_at) -> None:
    heights = float64([20.0, 5.0]).requires_grad_()
    ends = Event(lambda t, x: x[:, 0], direction=-1)
    solution = solve(flat(dropped(heights)), TIGHT, save_at, events=[ends])
    accepted, known = solution.stats.accepted, solution.event_times[0].clone()
    times = [3.0, 0.7, 1.2]
    closed = torch.stack([(heights - G / 2 * t**2).clamp(min=0.0) for t in times])
    read = solution(times)[:, :, 0]
    torch.testing.assert_close(read, closed, rtol=1e-8, atol=1e-8)
    ours, theirs = (torch.autograd.grad(x[1:].sum(), heights)[0] for x in (read, closed))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    each = solution(float64([0.7, 3.0]), per_sample=True)
    torch.testing.assert_close(each[:, 0], torch.stack([closed[1, 0], closed[0, 1]]))
    assert solution.stats.accepted == accepted
    torch.testing.assert_close(solution.event_times[0], known)


def test_what_a_state_that_has_ended_cannot_answer_is_refused() -> None:
    solution = solve(dropped(float64([20.0, 5.0])), TIGHT, events=[Event(height)])
    with pytest.raises(ValueError, match="does not follow the field"):
        solution.derivative(0.5)
    with pytest.raises(ValueError, match="detach"):
        solution(float64(0.5).requires_grad_())


def test_nothing_hears_of_steps_that_samples_make_by_themselves() -> None:
    problem, events = dropped(float64([20.0])), [Event(height)]
    with pytest.raises(ValueError, match=r"with events every sample.*leave them out"):
        solve(problem, TIGHT, callback=print, events=events)
    with pytest.raises(ValueError, match=r"with events every sample.*leave them out"):
        solve(problem, TIGHT, progress=True, events=events)


def test_a_method_for_the_whole_batch_is_refused() -> None:
    solver = Solver(AutoSwitch(Tsit5(), Rosenbrock23()))
    with pytest.raises(ValueError, match=r"AutoSwitch chooses one method for all samples"):
        solve(dropped(float64([20.0])), solver, events=[Event(height)])


@pytest.mark.parametrize("sensitivity", [CheckpointedAdjoint(), ReversibleAdjoint()], ids=str)
def test_a_parameter_of_the_field_is_reached(sensitivity) -> None:
    field, start = nn.Linear(1, 1).double(), float64([[0.5], [0.2]])
    problem = ODEProblem(field, start, (0.0, 1.0))
    gradients = []
    for each in (DiscreteAdjoint(), sensitivity):
        solver = Solver(Tsit5(), AdaptiveStep(1e-8, 1e-8), each)
        solution = solve(problem, solver, events=[Event(lambda t, x: x[:, 0] - 0.25)])
        out = solution.x.sum() + solution.event_times[0].nan_to_num().sum()
        gradients.append(torch.autograd.grad(out, list(field.parameters())))
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


WRONG = {
    "structure": (lambda t, x: x["place"], "another structure"),
    "shape": (lambda t, x: {**x, "speed": x["speed"][:, None]}, r"of shape .* for x0\['speed'\]"),
    "number": (lambda t, x: {**x, "speed": 0.0}, r"float for x0\['speed'\]"),
}


@pytest.mark.parametrize(("apply", "says"), WRONG.values(), ids=WRONG)
def test_another_structure_to_go_on_from_is_told_in_a_sentence(apply, says) -> None:
    with pytest.raises(ValueError, match=says):
        solve(dropped(float64([5.0])), TIGHT, events=[Event(height, direction=-1, apply=apply)])


def test_a_graph_goes_with_its_solution() -> None:
    """Without waiting for the collector of circles."""
    heights = float64([20.0]).requires_grad_()
    gc.disable()
    try:
        solution = solve(dropped(heights), TIGHT, events=[Event(height)])
        kept = weakref.ref(solution.event_times[0])
        del solution
        assert kept() is None
    finally:
        gc.enable()
