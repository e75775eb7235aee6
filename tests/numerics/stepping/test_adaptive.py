"""Adaptive solves of classic problems: as accurate as asked, and no dearer than torchdiffeq."""

from functools import cache

import pytest
import torch
import torchdiffeq

from rnode_dyn import (
    AdaptiveHeun,
    AdaptiveStep,
    Bosh3,
    Dopri5,
    Dopri8,
    Solution,
    Solver,
    Tsit5,
    solve,
)
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from tests.numerics.cases import CLASSICS, Classic, Counter

# As digits: 3 is a tolerance of 1e-3. A low order takes ever more steps, a million for order 2 at
# nine digits: some of its cases are slow ones, and its last ones are left out.
DIGITS = range(3, 10)
QUICK_UNTIL = {AdaptiveHeun(): 4, Bosh3(): 6}
LEFT_OUT_AFTER = {AdaptiveHeun(): 7}
THEIRS = {
    AdaptiveHeun(): "adaptive_heun",
    Bosh3(): "bosh3",
    Dopri5(): "dopri5",
    Dopri8(): "dopri8",
}

# Backwards, Lorenz's strong contraction is as strong an expansion.
REVERSIBLE = [classic for classic in CLASSICS if classic.name != "lorenz"]


def cells(algorithms: list[ExplicitRungeKutta]) -> list:
    """Every algorithm at every tolerance."""
    return [
        pytest.param(
            algorithm,
            10.0**-digits,
            id=f"{algorithm.name}-1e-{digits}",
            marks=[pytest.mark.slow] if digits > QUICK_UNTIL.get(algorithm, 9) else [],
        )
        for algorithm in algorithms
        for digits in DIGITS
        if digits <= LEFT_OUT_AFTER.get(algorithm, 9)
    ]


def solver_at(algorithm: ExplicitRungeKutta, tolerance: float) -> Solver:
    return Solver(algorithm, AdaptiveStep(tolerance, tolerance, max_steps=10_000_000))


@cache
def solved(classic: Classic, algorithm: ExplicitRungeKutta, tolerance: float) -> Solution:
    return solve(classic.problem(), solver_at(algorithm, tolerance))


def their_evaluations(classic: Classic, method: str, tolerance: float) -> int:
    problem, field = classic.problem(), Counter(classic.field)
    times = torch.tensor(problem.t_span, dtype=torch.float64)
    torchdiffeq.odeint(field, problem.x0, times, rtol=tolerance, atol=tolerance, method=method)
    return field.calls


@pytest.mark.one_in(3)
@pytest.mark.parametrize("classic", CLASSICS, ids=str)
@pytest.mark.parametrize(("algorithm", "tolerance"), cells([*THEIRS, Tsit5()]))
def test_the_error_is_of_the_tolerance_size(
    classic: Classic, algorithm: ExplicitRungeKutta, tolerance: float
) -> None:
    x = solved(classic, algorithm, tolerance).x[-1]
    assert float((x - classic.reference()).abs().max()) < 100 * tolerance


@pytest.mark.one_in(5)
@pytest.mark.parametrize("classic", CLASSICS, ids=str)
@pytest.mark.parametrize(("algorithm", "tolerance"), cells([*THEIRS]))
def test_evaluations_are_at_most_a_fifth_more_than_torchdiffeqs(
    classic: Classic, algorithm: ExplicitRungeKutta, tolerance: float
) -> None:
    ours = solved(classic, algorithm, tolerance).stats.nfe
    assert ours <= 1.2 * their_evaluations(classic, THEIRS[algorithm], tolerance)


@pytest.mark.parametrize("classic", REVERSIBLE, ids=str)
@pytest.mark.parametrize("algorithm", [Bosh3(), Dopri5(), Tsit5(), Dopri8()], ids=str)
def test_going_there_and_back(classic: Classic, algorithm: ExplicitRungeKutta) -> None:
    """Solved back from its end, a problem is at its start again."""
    problem, solver = classic.problem(), solver_at(algorithm, 1e-6)
    there = solve(problem, solver).x[-1]
    back = solve(type(problem)(problem.field, there, problem.t_span[::-1]), solver).x[-1]
    assert float((back - problem.x0).abs().max()) < 1e-3


@pytest.mark.parametrize("first_step", [1e-4, 100.0])
def test_a_first_step_of_ones_own(first_step: float) -> None:
    """Too short or longer than the span, it costs steps and not accuracy."""
    oscillator = next(c for c in CLASSICS if c.name == "oscillator")
    stepping = AdaptiveStep(1e-6, 1e-6, first_step=first_step)
    x = solve(oscillator.problem(), Solver(Dopri5(), stepping)).x[-1]
    assert float((x - oscillator.reference()).abs().max()) < 1e-4


@pytest.mark.parametrize("span", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "reversed"])
@pytest.mark.parametrize("algorithm", [*THEIRS, Tsit5()], ids=str)
def test_the_field_is_never_asked_outside_the_time_span(
    algorithm: ExplicitRungeKutta, span: tuple[float, float]
) -> None:
    """A slow field tempts the estimate of the first step to look far ahead."""
    field = Counter(lambda t, x: 1e-3 * torch.cos(t) * x)
    problem = CLASSICS[3].problem()
    solve(type(problem)(field, problem.x0, span), solver_at(algorithm, 1e-5))
    assert min(field.times) >= 0.0
    assert max(field.times) <= 1.0
