"""AutoSwitch: where it changes the method, what it computes, its gradients, what it refuses."""

import math
from itertools import groupby

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    BS5,
    RK4,
    AdaptiveStep,
    AutoSwitch,
    BacksolveAdjoint,
    Bosh3,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    FixedStep,
    InterpolatingAdjoint,
    Kvaerno5,
    ODEProblem,
    ReversibleAdjoint,
    Rodas5P,
    Rosenbrock23,
    Solver,
    Step,
    Tsit5,
    Vern9,
    solve,
)
from rnode_dyn.numerics.algorithms.auto_switch import real_stability
from rnode_dyn.numerics.stats import CountedField, SolveStats
from tests.numerics.algorithms.test_stiff import van_der_pol
from tests.numerics.cases import RigidBody, float64, relative_error

SWITCH = AutoSwitch(Tsit5(), Rosenbrock23())


def chased(rate: Tensor) -> ODEProblem:
    """x follows cos t at this rate; stiff once it is there."""
    start = float64([[2.0], [1.5]])
    return ODEProblem(lambda t, x: -rate * (x - torch.cos(t)), start, (0.0, 1.0))


def turns(steps: list[Step]) -> list[str]:
    return [name for name, _ in groupby(step.made_by.name for step in steps if step.made_by)]


def test_an_oscillator_of_relaxation() -> None:
    """Slow branches are stiff, and the jumps between them are not."""
    problem = ODEProblem(van_der_pol, float64([[2.0, 0.0]]), (0.0, 900.0))
    algorithm, steps = AutoSwitch(Tsit5(), Rodas5P()), []
    with torch.no_grad():
        solver = Solver(algorithm, AdaptiveStep(1e-3, 1e-6))
        solution = solve(problem, solver, callback=steps.append)
        alone = solve(problem, Solver(Rodas5P(), solver.stepping))
    assert turns(steps)[:4] == ["Tsit5", "Rodas5P", "Tsit5", "Rodas5P"]
    assert solution.stats.nfe < 1.5 * alone.stats.nfe
    assert relative_error(solution.x[-1], alone.x[-1]) < 3e-3


def test_a_problem_that_is_not_stiff_is_the_explicit_methods() -> None:
    problem, stepping = RigidBody().problem((0.0, 3.0)), AdaptiveStep(1e-5, 1e-5, first_step=0.1)
    switching = solve(problem, Solver(SWITCH, stepping))
    assert switching.x.equal(solve(problem, Solver(Tsit5(), stepping)).x)
    assert switching.stats.njac == 0


@pytest.mark.parametrize("algorithm", [SWITCH, AutoSwitch(Dopri5(), Rodas5P())], ids=str)
def test_dense_output_is_that_of_each_steps_method(algorithm: AutoSwitch) -> None:
    problem, steps = chased(float64(1000.0)), []
    solver = Solver(algorithm, AdaptiveStep(1e-4, 1e-4))
    solution = solve(problem, solver, callback=steps.append)
    assert len(turns(steps)) > 1
    rate, times = 1000.0, torch.linspace(0.0, 1.0, 50, dtype=torch.float64)
    near = (rate**2 * times.cos() + rate * times.sin()) / (1 + rate**2)
    away = (problem.x0 - rate**2 / (1 + rate**2)) * torch.exp(-rate * times)
    assert (solution(times)[..., 0] - (near + away).T).abs().max() < 1e-3
    assert (solve(problem, solver, save_at=times).x - solution(times)).abs().max() < 1e-14


@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint(every=3)], ids=str)
def test_the_steps_are_differentiated_as_they_were_made(
    sensitivity: DiscreteAdjoint | CheckpointedAdjoint,
) -> None:
    """By each step's own method: made again by hand, and by finite differences."""
    rate, steps = float64(300.0).requires_grad_(), []
    solver = Solver(SWITCH, AdaptiveStep(1e-4, 1e-4), sensitivity)
    solve(chased(rate), solver, callback=steps.append).x[-1].sum().backward()
    assert turns(steps) == ["Tsit5", "Rosenbrock23"]

    @torch.no_grad()
    def end(rate: Tensor) -> float:
        problem = chased(rate)
        rhs, x = CountedField(problem, SolveStats()), problem.x0
        for step in steps:
            assert step.made_by is not None
            x = step.made_by.advance(rhs, step.t, step.t1 - step.t, x).x1
        return float(x.sum())

    wanted = (end(float64(300.001)) - end(float64(299.999))) / 0.002
    assert rate.grad is not None
    assert float(rate.grad) == pytest.approx(wanted, rel=1e-5)


def test_checkpointed_is_discrete() -> None:
    found = []
    for sensitivity in (DiscreteAdjoint(), CheckpointedAdjoint(), CheckpointedAdjoint(every=7)):
        rate = float64(300.0).requires_grad_()
        solver = Solver(SWITCH, AdaptiveStep(1e-4, 1e-4), sensitivity)
        x = solve(chased(rate), solver, save_at=[0.013, 0.4, 1.0]).x
        (x * float64([1.0, 2.0, 3.0]).reshape(3, 1, 1)).sum().backward()
        found.append(rate.grad)
    assert relative_error(found[1], found[0]) < 1e-10
    assert relative_error(found[2], found[0]) < 1e-10


@pytest.mark.parametrize(
    ("method", "bound"),
    [(RK4(), 2.785), (Dopri5(), 3.307), (Tsit5(), 3.507), (BS5(), 3.985), (Vern9(), 4.475)],
    ids=str,
)
def test_how_far_a_method_is_stable(method: RK4, bound: float) -> None:
    """A step of x' = −z x neither grows nor shrinks there."""
    found = real_stability(method.tableau)
    assert found == pytest.approx(bound, abs=0.02)
    problem = ODEProblem(lambda t, x: -x, torch.ones(1, 1, dtype=torch.float64), (0.0, 20 * found))
    for factor, kind in ((0.98, "shrinks"), (1.02, "grows")):
        dt = factor * found
        rhs, x = CountedField(problem, SolveStats()), problem.x0
        for i in range(20):
            x = method.advance(rhs, i * dt, dt, x).x1
        assert (abs(float(x)) < 1) == (kind == "shrinks")


def test_what_is_refused_when_the_solver_is_built() -> None:
    with pytest.raises(ValueError, match=r"AutoSwitch changes its method.*AdaptiveStep"):
        Solver(SWITCH, FixedStep(0.1))
    with pytest.raises(ValueError, match="AutoSwitch solves for all samples at one time"):
        Solver(SWITCH, AdaptiveStep(per_sample=True))
    for sensitivity in (BacksolveAdjoint(), InterpolatingAdjoint(), ReversibleAdjoint()):
        with pytest.raises(ValueError, match=r"AutoSwitch.*DiscreteAdjoint\(\)"):
            Solver(SWITCH, sensitivity=sensitivity)


@pytest.mark.parametrize(
    ("explicit", "stiff", "kind", "said"),
    [
        (Bosh3(), Rodas5P(), ValueError, "Bosh3 has not both"),
        (RK4(), Rodas5P(), ValueError, "RK4 has not both"),
        (Rodas5P(), Tsit5(), TypeError, "explicit is Rodas5P"),
        (Tsit5(), Kvaerno5(), TypeError, "stiff is Kvaerno5"),
    ],
    ids=str,
)
def test_methods_that_do_not_fit(explicit, stiff, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        AutoSwitch(explicit, stiff)


def test_equal_by_what_they_are() -> None:
    assert AutoSwitch(Tsit5(), Rosenbrock23()) == SWITCH
    assert AutoSwitch(Tsit5(), Rodas5P()) != SWITCH
    assert hash(AutoSwitch(Tsit5(), Rosenbrock23())) == hash(SWITCH)
    assert (SWITCH.order, SWITCH.embedded_order, SWITCH.interpolation_order) == (2, 3, 2)
    assert math.isfinite(real_stability(Tsit5.tableau))
