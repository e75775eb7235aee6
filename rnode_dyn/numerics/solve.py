"""Solving: a problem, and a solver made of algorithm, stepping and sensitivity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.algorithms.from_torchdyn import as_algorithm
from rnode_dyn.numerics.algorithms.tsitouras import Tsit5
from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.integrate import EventSearch, checked_events
from rnode_dyn.numerics.events.packing import packed_event
from rnode_dyn.numerics.events.solution import with_events
from rnode_dyn.numerics.forward_solve import ForwardSolve
from rnode_dyn.numerics.packing import packed, packed_stepping
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.save_times import as_list, save_times
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.discrete import DiscreteAdjoint
from rnode_dyn.numerics.solution import Solution
from rnode_dyn.numerics.stepping.adaptive import AdaptiveStep
from rnode_dyn.numerics.stepping.base import Stepping
from rnode_dyn.numerics.stepping.fixed import FixedStep
from rnode_dyn.numerics.stepping.integrator import Integrator


@dataclass(frozen=True)
class Solver:
    """How to solve and how to differentiate the solve; the three parts combine freely.

    Args:
        algorithm: How to step: ``Tsit5()``, ``RK4()``, …, a torchdyn solver, or its name.
        stepping: How far: ``FixedStep(dt)`` or ``AdaptiveStep(rtol, atol)``.
        sensitivity: How to differentiate: ``DiscreteAdjoint()``, ``CheckpointedAdjoint()``,
            ``BacksolveAdjoint()``, ``InterpolatingAdjoint()`` or ``ReversibleAdjoint()``.

    Raises:
        TypeError: if a part is not of its kind.
        ValueError: if the algorithm has no error estimate and the stepping needs one, or every
            sample steps by itself and the sensitivity could not differentiate that.

    Example:
        >>> from rnode_dyn import RK4, FixedStep
        >>> Solver(RK4(), FixedStep(0.25))
        Solver(algorithm=RK4(), stepping=FixedStep(dt=0.25), sensitivity=DiscreteAdjoint())
    """

    algorithm: Algorithm = field(default_factory=Tsit5)
    stepping: Stepping = field(default_factory=AdaptiveStep)
    sensitivity: Sensitivity = field(default_factory=DiscreteAdjoint)

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", as_algorithm(self.algorithm))
        if not isinstance(self.stepping, FixedStep | AdaptiveStep):
            raise TypeError(
                f"stepping is {self.stepping!r}; write FixedStep(dt) or AdaptiveStep(rtol, atol)."
            )
        if not isinstance(self.sensitivity, Sensitivity):
            raise TypeError(
                f"sensitivity is {self.sensitivity!r}; write DiscreteAdjoint(), "
                "CheckpointedAdjoint(), BacksolveAdjoint(), InterpolatingAdjoint() or "
                "ReversibleAdjoint()."
            )
        self.stepping.check(self.algorithm)
        self.sensitivity.check(self.algorithm_parameters)
        self.sensitivity.check_algorithm(self.algorithm)
        if self.integrator.per_sample:
            self.sensitivity.check_by_sample()

    @property
    def integrator(self) -> Integrator:
        """What steps: the algorithm and the stepping."""
        return Integrator(self.algorithm, self.stepping)

    @property
    def algorithm_parameters(self) -> tuple[Tensor, ...]:
        """Parameters of the algorithm itself: a hypersolver's."""
        return self.integrator.parameters


def solve(
    problem: ODEProblem,
    solver: Solver | None = None,
    save_at: Sequence[Any] | Tensor | None = None,
    *,
    callback: Callable[[Step], object] | None = None,
    progress: bool = False,
    events: Sequence[Event] | Event | None = None,
) -> Solution:
    """Solve an initial value problem.

    Args:
        problem: What to solve.
        solver: How; ``Solver()``, Tsit5 at 1e-5, when left out.
        save_at: Times to return the state at, in the direction of the time span; the two ends of
            the span when left out. They do not shorten the steps: dense output serves them. With
            them, no steps are kept.
        callback: What is called with each accepted :class:`Step`. An error that it raises ends
            the solve.
        progress: Whether to show on the standard error stream how far the solve has come.
        events: What to look for on the way, see :class:`Event`. Every sample then steps by itself,
            with the tolerances or the step of its own that ``solver.stepping`` says; one whose
            solve has ended keeps its state.

    Returns:
        The states at those times, and at any other when it is called; gradients reach
        ``problem.x0``, all that the field uses, and times that are tensors which want one.

    Raises:
        SolverError: where the solve cannot go on. This, and whatever else ends the solve, an
            interrupt or an error of the field, has the solution so far as its ``solution``.

    Example:
        >>> import math
        >>> import torch
        >>> decay = ODEProblem(lambda t, x: -x, torch.ones(1, 1, dtype=torch.float64), (0.0, 1.0))
        >>> solution = solve(decay, save_at=[0.5, 1.0])
        >>> abs(solution.x[-1].item() - math.exp(-1)) < 1e-5
        True
        >>> abs(solution(0.25).item() - math.exp(-0.25)) < 1e-4
        True
    """
    return solve_as(None, problem, solver, save_at, callback, progress, events)


def solve_as(
    whole: Callable[[Tensor], Any] | None,
    problem: ODEProblem,
    solver: Solver | None = None,
    save_at: Sequence[Any] | Tensor | None = None,
    callback: Callable[[Step], object] | None = None,
    progress: bool = False,
    events: Sequence[Event] | Event | None = None,
) -> Solution:
    """Solve as :func:`solve` does, and return states in another form.

    Args:
        whole: What makes it of a state of one tensor; left out, it is the problem's own structure.
        problem: What to solve.
        solver: How.
        save_at: Times to return the state at.
        callback: What is called with each accepted step.
        progress: Whether to show how far the solve has come.
        events: What to look for on the way.
    """
    solver = Solver() if solver is None else solver
    _check_kinds(problem, solver, callback, progress)
    _check_heard(solver, callback, progress, events)
    given = list(problem.t_span) if save_at is None else as_list(save_at)
    times = save_times(problem.span, given, problem.time_rounding)
    integrator = Integrator(solver.algorithm, packed_stepping(solver.stepping, problem))
    if whole is None and problem.structure is not None:
        whole = problem.structure.unpack
    search, sensitivity = None, solver.sensitivity
    if events is not None:
        told = checked_events(events, [*problem.t_span, *given])
        search = EventSearch([packed_event(e, problem.structure) for e in told], sensitivity)
    once = ForwardSolve(packed(problem), integrator, search or sensitivity, given, times, whole)
    solution = once.run(callback, progress, keeps_steps=save_at is None)
    return solution if search is None else with_events(solution, search.happened, whole)


def _check_heard(solver: Solver, callback: object, progress: bool, events: object) -> None:
    alone = "AdaptiveStep(per_sample=True)" if events is None else "events"
    if (events is not None or solver.integrator.per_sample) and (callback is not None or progress):
        raise ValueError(
            "callback and progress follow the steps of the batch, and with "
            f"{alone} every sample makes its own: leave them out."
        )


def _check_kinds(problem: object, solver: object, callback: object, progress: object) -> None:
    if not isinstance(problem, ODEProblem):
        raise TypeError(f"problem is {problem!r}; write ODEProblem(field, x0, (t0, t1)).")
    if not isinstance(solver, Solver):
        raise TypeError(f"solver is {solver!r}; write Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5)).")
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; write a function of one argument, the step.")
    if not isinstance(progress, bool):
        raise TypeError(f"progress is {progress!r}; write progress=True, or leave it out.")
