"""Solving: a problem, and a solver made of algorithm, stepping and sensitivity."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.algorithms.from_torchdyn import as_algorithm
from rnode_dyn.numerics.algorithms.tsitouras import Tsit5
from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.integrate import checked_events, integrate_with_events
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.save_times import as_list, save_times
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.discrete import DiscreteAdjoint
from rnode_dyn.numerics.sensitivity.time_gradient import saved_at, start_at
from rnode_dyn.numerics.stats import SolveStats
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
            ``BacksolveAdjoint()`` or ``InterpolatingAdjoint()``.

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
                "CheckpointedAdjoint(), BacksolveAdjoint() or InterpolatingAdjoint()."
            )
        self.stepping.check(self.algorithm)
        self.sensitivity.check(self.algorithm_parameters)
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


@dataclass(frozen=True, eq=False)
class Solution:
    """The states of a solve.

    Attributes:
        t: The times, ``(len(t),)``.
        x: The states there, ``(len(t), batch, *event)``.
        stats: What the solve cost.
        event_times: For each event the times at which it happened: ``(batch,)`` for one that ends
            a solve, ``(count, batch)`` for others, in their order. NaN where there is none.
        event_states: The states there, ``(batch, *event)`` or ``(count, batch, *event)``; where
            the event changes the state, before it does.
    """

    t: Tensor
    x: Tensor
    stats: SolveStats
    event_times: tuple[Tensor, ...] = ()
    event_states: tuple[Tensor, ...] = ()


def solve(
    problem: ODEProblem,
    solver: Solver | None = None,
    save_at: Sequence[Any] | Tensor | None = None,
    events: Sequence[Event] | Event | None = None,
) -> Solution:
    """Solve an initial value problem.

    Args:
        problem: What to solve.
        solver: How; ``Solver()``, Tsit5 at 1e-5, when left out.
        save_at: Times to return the state at, in the direction of the time span; the two ends of
            the span when left out. They do not shorten the steps: dense output serves them.
        events: What to look for on the way, see :class:`Event`. Every sample then steps by itself,
            with the tolerances or the step of its own that ``solver.stepping`` says; one whose
            solve has ended keeps its state.

    Returns:
        The states at those times; gradients reach ``problem.x0``, all that the field uses, and
        times that are tensors which want one.

    Raises:
        SolverError: where the solve cannot go on.

    Example:
        >>> import math
        >>> import torch
        >>> decay = ODEProblem(lambda t, x: -x, torch.ones(1, 1, dtype=torch.float64), (0.0, 1.0))
        >>> solution = solve(decay, save_at=[0.5, 1.0])
        >>> abs(solution.x[-1].item() - math.exp(-1)) < 1e-5
        True
    """
    solver = Solver() if solver is None else solver
    if not isinstance(problem, ODEProblem):
        raise TypeError(f"problem is {problem!r}; write ODEProblem(field, x0, (t0, t1)).")
    if not isinstance(solver, Solver):
        raise TypeError(f"solver is {solver!r}; write Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5)).")
    given = list(problem.t_span) if save_at is None else as_list(save_at)
    times = save_times(problem.span, given, problem.time_rounding)
    stats = SolveStats()
    told = _as_told(given, times, problem.x0)
    if events is not None:
        looked_for = checked_events(events, [*problem.t_span, *given])
        found = integrate_with_events(
            problem, solver.integrator, solver.sensitivity, times, stats, looked_for
        )
        return Solution(told, found.x, stats, found.times, found.states)
    started = replace(problem, x0=start_at(problem, stats))
    x = solver.sensitivity.integrate(started, solver.integrator, times, stats)
    return Solution(told, saved_at(problem, x, given, stats), stats)


def _as_told(given: list[Any], times: list[float], like: Tensor) -> Tensor:
    """The times as one tensor, through which those that want a gradient are reached."""
    if not any(map(wants_gradient, given)):
        return torch.tensor(times, dtype=like.dtype, device=like.device)
    told = [
        g if wants_gradient(g) else like.new_tensor(t) for g, t in zip(given, times, strict=True)
    ]
    return torch.stack([t.to(like) for t in told])
