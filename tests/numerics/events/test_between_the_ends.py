"""Events that come and go within one step."""

import math

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Dopri8,
    Event,
    FixedStep,
    NonFiniteStateError,
    ODEProblem,
    Solver,
    Tsit5,
    Vern7,
    solve,
)
from tests.numerics.cases import float64


def clock(end: float = 1.0, start: float = 0.0) -> ODEProblem:
    """x = t, and one step of it."""
    begin = float64([[start], [start - 5.0]])
    return ODEProblem(lambda t, x: torch.ones_like(x), begin, (start, end))


def within(t: Tensor, x: Tensor) -> Tensor:
    return (x[:, 0] - 0.3) * (x[:, 0] - 0.6)


ONE_STEP = Solver(Tsit5(), FixedStep(1.0))


@pytest.mark.parametrize("algorithm", [Tsit5(), RK4(), Dopri8(), Vern7()], ids=str)
def test_two_crossings_in_one_step_are_both_seen(algorithm) -> None:
    solver = Solver(algorithm, FixedStep(1.0))
    noted = solve(clock(), solver, events=[Event(within, terminate=False)])
    assert noted.stats.accepted == 2  # one of each sample
    torch.testing.assert_close(noted.event_times[0][:, 0], float64([0.3, 0.6]))
    assert torch.isnan(noted.event_times[0][:, 1]).all()


@pytest.mark.parametrize(("direction", "wanted"), [(0, 0.3), (-1, 0.3), (1, 0.6)])
def test_a_solve_ends_at_the_first_that_is_meant(direction: int, wanted: float) -> None:
    (time,) = solve(clock(), ONE_STEP, events=[Event(within, direction=direction)]).event_times
    torch.testing.assert_close(time[0], float64(wanted))
    backwards = solve(clock(0.0, 1.0), ONE_STEP, events=[Event(within, direction=direction)])
    first = {0: 0.6, -1: 0.6, 1: 0.3}[direction]
    torch.testing.assert_close(backwards.event_times[0][0], float64(first))


def test_a_state_is_changed_at_the_first_and_goes_on_from_there() -> None:
    back = Event(within, direction=-1, apply=lambda t, x: x - 0.2)
    solution = solve(clock(), ONE_STEP, events=[back])
    # At 0.3 back to 0.1, and so on.
    torch.testing.assert_close(solution.event_times[0][:, 0], float64([0.3, 0.5, 0.7, 0.9]))
    torch.testing.assert_close(solution.x[-1, 0, 0], float64(0.2))


def test_how_many_points_are_looked_at() -> None:
    """What lies between two of them goes unseen."""

    def brief(t: Tensor, x: Tensor) -> Tensor:
        return (x[:, 0] - 0.31) * (x[:, 0] - 0.32)

    for points, event, count in (
        (0, within, 0),
        (1, within, 2),
        (10, brief, 0),
        (200, brief, 2),
    ):
        seen = Event(event, terminate=False, interp_points=points)
        (times,) = solve(clock(), ONE_STEP, events=[seen]).event_times
        assert len(times) == count


def test_a_swing_is_followed_through_long_steps() -> None:
    """On the method's own interpolant, not on the cubic that is looked at."""
    swing = ODEProblem(
        lambda t, x: torch.stack([x[:, 1], -x[:, 0]], 1), float64([[0.0, 1.0]]), (0.0, 20.0)
    )
    turn = Event(lambda t, x: x[:, 1] * x[:, 0] - 0.25, terminate=False)  # sin 2t = 1/2
    solver = Solver(Vern7(), AdaptiveStep(1e-8, 1e-8))
    (times,) = solve(swing, solver, events=[turn]).event_times
    wanted = [math.pi * (k + part) for k in range(7) for part in (1 / 12, 5 / 12)]
    torch.testing.assert_close(
        times[:, 0], float64([t for t in wanted if t < 20]), atol=1e-6, rtol=0
    )


def test_looking_costs_no_evaluation() -> None:
    far = [Event(lambda t, x: x[:, 0] + 9, interp_points=points) for points in (0, 10, 100)]
    counts = {solve(clock(), ONE_STEP, events=[event]).stats.nfe for event in far}
    assert len(counts) == 1


def test_a_condition_that_is_no_number_within_a_step_is_told_of() -> None:
    gap = Event(lambda t, x: torch.sqrt((x[:, 0] - 0.5).abs() - 0.1))
    with pytest.raises(NonFiniteStateError, match="condition is not a number"):
        solve(clock(), ONE_STEP, events=[gap])


@pytest.mark.parametrize("points", [-1, 2.5, "ten", True, None, math.inf, math.nan])
def test_a_wrong_number_of_points(points: object) -> None:
    with pytest.raises(ValueError, match=r"interp_points is .*write how many points"):
        Event(within, interp_points=points)  # type: ignore[arg-type]
