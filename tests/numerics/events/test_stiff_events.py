"""Events of stiff problems: SciPy's times, and gradients of what is computed."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    Algorithm,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Event,
    FixedStep,
    InterpolatingAdjoint,
    Kvaerno3,
    Kvaerno5,
    NewtonError,
    ODEProblem,
    Rodas5P,
    Rosenbrock23,
    Sensitivity,
    Solver,
    solve,
)
from tests.numerics.cases import STIFF, float64

EACH = pytest.mark.parametrize("algorithm", STIFF, ids=lambda a: a.name)
SENSITIVITIES = pytest.mark.parametrize(
    "sensitivity",
    [DiscreteAdjoint(), CheckpointedAdjoint(), CheckpointedAdjoint(every=3)],
    ids=str,
)


def van_der_pol(t: Tensor, x: Tensor) -> Tensor:
    place, speed = x.unbind(1)
    return torch.stack([speed, 100 * (1 - place * place) * speed - place], 1)


@pytest.mark.parametrize("algorithm", [Rodas5P(), pytest.param(Kvaerno5(), marks=pytest.mark.slow)])
def test_an_oscillator_that_jumps_as_in_scipy(algorithm: Algorithm) -> None:
    """On the slow branch, where it jumps, and by the variable whose rate is the fast one."""
    conditions: list[Callable] = [
        lambda t, x: x[..., 0] - 1.5,
        lambda t, x: x[..., 0],
        lambda t, x: x[..., 1] + 0.02,
    ]
    wanted = solve_ivp(
        lambda t, x: van_der_pol(t, torch.from_numpy(x)[None])[0].numpy(),
        (0.0, 90.0),
        [2.0, 0.0],
        method="Radau",
        rtol=1e-8,
        atol=1e-10,
        events=[lambda t, x, g=g: g(t, np.asarray(x)) for g in conditions],
    ).t_events
    events = [Event(g, terminate=False) for g in conditions]
    problem = ODEProblem(van_der_pol, float64([[2.0, 0.0]]), (0.0, 90.0))
    solution = solve(problem, Solver(algorithm, AdaptiveStep(1e-5, 1e-7)), events=events)
    for ours, theirs in zip(solution.event_times, wanted, strict=True):
        np.testing.assert_allclose(ours[:, 0].numpy(), theirs, atol=1e-2)


@pytest.mark.one_in(2)
@EACH
@pytest.mark.parametrize("end", [1.2, -1.2])
def test_what_follows_a_cosine_in_a_batch(algorithm: Algorithm, end: float) -> None:
    """Each sample ends where it comes to a half, in both directions of time."""
    rate = math.copysign(1000.0, end)

    class Chased:
        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return -rate * (x - torch.cos(t)) - torch.sin(t)

        def jacobian(self, t: Tensor, x: Tensor) -> Tensor:
            return torch.full((len(x), 1, 1), -rate, dtype=x.dtype)

    starts = float64([[1.0], [1.5]])
    half = Event(lambda t, x: x[:, 0] - 0.5, direction=-1)
    problem = ODEProblem(Chased(), starts, (0.0, end))
    solver = Solver(algorithm, AdaptiveStep(1e-5, 1e-5))
    solution = solve(problem, solver, events=[half])
    wanted = float64([math.acos(0.5)] * 2) * math.copysign(1.0, end)
    # The stages that Kværnø's methods interpolate are of order 2 where a problem is so stiff.
    accuracy = 1e-3 if isinstance(algorithm, Kvaerno3 | Kvaerno5) else 2e-5
    torch.testing.assert_close(solution.event_times[0], wanted, rtol=0, atol=accuracy)
    torch.testing.assert_close(solution.x[-1], float64([[0.5]] * 2), rtol=0, atol=1e-9)
    without = ODEProblem(lambda t, x: problem.field(t, x), starts, (0.0, end))
    again = solve(without, solver, events=[half])
    torch.testing.assert_close(again.event_times[0], solution.event_times[0], rtol=0, atol=1e-9)
    assert solution.stats.njac > 0


@EACH
def test_two_crossings_in_one_step(algorithm: Algorithm) -> None:
    """Dense output is looked at between the ends."""
    clock = ODEProblem(lambda t, x: torch.ones_like(x), float64([[0.0], [-5.0]]), (0.0, 1.0))
    within = Event(lambda t, x: (x[:, 0] - 0.3) * (x[:, 0] - 0.6), terminate=False)
    (times,) = solve(clock, Solver(algorithm, FixedStep(1.0)), events=[within]).event_times
    torch.testing.assert_close(times[:, 0], float64([0.3, 0.6]), rtol=0, atol=1e-10)
    assert torch.isnan(times[:, 1]).all()


def driven(
    inputs: Tensor, algorithm: Algorithm, stepping, sensitivity: Sensitivity, applies: bool
) -> Tensor:
    """All that a solve returns of a slow and a fast variable, with events of both."""
    rate, level = inputs[0], inputs[1]

    def field(t: Tensor, x: Tensor) -> Tensor:
        slow, fast = x.unbind(1)
        course = torch.exp(-slow * slow) + 0.1 * torch.sin(3 * t)
        forced = 0.2 * torch.cos(t) - (0.3 + 0.1 * rate) * slow * fast
        return torch.stack([forced, -200 * rate * (fast - course)], 1)

    def lifted(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] + 0.3 * level, 0.9 * x[:, 1]], 1)

    events = [Event(lambda t, x: x[:, 1] - level * (1 + 0.05 * t), terminate=False)]
    if applies:
        events.append(Event(lambda t, x: x[:, 0] - 0.75, direction=-1, apply=lifted))
    else:
        events.append(Event(lambda t, x: x[:, 0] - 0.7 - 0.1 * level))
    problem = ODEProblem(field, inputs[2:].view(2, 2), (0.0, 3.0))
    solver = Solver(algorithm, stepping, sensitivity)
    solution = solve(problem, solver, save_at=[0.9, 3.0], events=events)
    assert bool(solution.event_times[1].isfinite().any())
    parts = [solution.x, *solution.event_times, *solution.event_states]
    return torch.cat([part.nan_to_num(0.0).flatten() for part in parts])


INPUTS = [1.0, 0.62, 1.1, 0.5, 0.95, 0.45]


def compare(
    algorithm: Algorithm, stepping, sensitivity: Sensitivity, applies: bool, tolerance: float
) -> None:
    inputs = float64(INPUTS).requires_grad_()
    result = driven(inputs, algorithm, stepping, sensitivity, applies)
    weights = torch.linspace(-1.0, 2.0, len(result), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * result).sum(), inputs)
    along = float64([0.3, -0.5, 1.0, 0.7, -0.4, 0.8])
    with torch.no_grad():
        plain, ahead, behind = (
            driven(inputs + h * along, algorithm, stepping, DiscreteAdjoint(), applies)
            for h in (0.0, 1e-5, -1e-5)
        )
    torch.testing.assert_close(result.detach(), plain, rtol=1e-10, atol=1e-10)
    wanted = (weights * (ahead - behind)).sum() / 2e-5
    torch.testing.assert_close(gradient @ along, wanted, rtol=tolerance, atol=0)


@pytest.mark.one_in(3)
@SENSITIVITIES
@EACH
def test_gradients_are_those_of_what_is_computed(
    algorithm: Algorithm, sensitivity: Sensitivity
) -> None:
    """Of times, states and ends, under fixed steps, also where the fast variable has the event.

    The field, at a state that is off by its error, is off by 200 times as much there: what moves
    an event is the slope of dense output.
    """
    exact = sensitivity != CheckpointedAdjoint(every=3)
    compare(algorithm, FixedStep(0.25), sensitivity, False, 1e-7 if exact else 2e-2)


@pytest.mark.parametrize(
    ("algorithm", "stepping", "tolerance"),
    [
        (Rodas5P(), FixedStep(0.05), 1e-3),
        pytest.param(Rodas5P(), AdaptiveStep(1e-8, 1e-8), 1e-4, marks=pytest.mark.slow),
        pytest.param(Kvaerno5(), AdaptiveStep(1e-8, 1e-8), 1e-4, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=str)
def test_gradients_through_a_state_that_is_changed(
    algorithm: Algorithm, stepping, sensitivity: Sensitivity, tolerance: float
) -> None:
    """As near as the steps are: they begin at another time where an event comes later."""
    compare(algorithm, stepping, sensitivity, True, tolerance)


def test_a_level_that_is_reached_in_time_of_its_closed_form() -> None:
    """x = start · exp(−rate t): the time to come to a level, by start, rate and level."""
    start, rate, level = (float64(v).requires_grad_() for v in ([2.0, 3.0], 300.0, 0.5))
    event = Event(lambda t, x: x[:, 0] - level)
    problem = ODEProblem(lambda t, x: -rate * x, start[:, None], (0.0, 1.0))
    solution = solve(problem, Solver(Rodas5P(), AdaptiveStep(1e-9, 1e-9)), events=[event])
    wanted = torch.log(start / level) / rate
    torch.testing.assert_close(solution.event_times[0], wanted, rtol=1e-7, atol=0)
    inputs = [start, rate, level]
    for ours, theirs in zip(
        torch.autograd.grad(solution.event_times[0].sum(), inputs),
        torch.autograd.grad(wanted.sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


def test_what_cannot_be_solved_is_told_as_such() -> None:
    away = Event(lambda t, x: x[:, 0] - 50)
    problem = ODEProblem(lambda t, x: torch.sin(40 * x), float64([[0.0], [2.0]]), (0.0, 2.0))
    with pytest.raises(NewtonError, match="has not settled in 10 iterations") as caught:
        solve(problem, Solver(Kvaerno3(), FixedStep(2.0)), events=[away])
    assert caught.value.worst_sample == 1
    grows = ODEProblem(lambda t, x: x / Kvaerno3.gamma, float64([[1.0]]), (0.0, 1.0))
    with pytest.raises(NewtonError, match="singular"):
        solve(grows, Solver(Kvaerno3(), FixedStep(1.0)), events=[away])
    solution = solve(grows, Solver(Kvaerno3(), AdaptiveStep(first_step=1.0)), events=[away])
    assert solution.stats.rejected > 0


def test_samples_that_see_each_other_are_refused() -> None:
    problem = ODEProblem(lambda t, x: x - x.mean(0), float64([[1.0], [3.0]]), (0.0, 1.0))
    with pytest.raises(ValueError, match=r"without the others|depends on another sample"):
        solve(problem, Solver(Rosenbrock23(), FixedStep(0.5)), events=[Event(lambda t, x: x[:, 0])])


@pytest.mark.parametrize("sensitivity", [BacksolveAdjoint(), InterpolatingAdjoint()], ids=str)
def test_continuous_adjoints_refuse_as_without_events(sensitivity: Sensitivity) -> None:
    with pytest.raises(ValueError, match="a matrix as large as the whole batch"):
        Solver(Rodas5P(), FixedStep(0.1), sensitivity)
