"""How to differentiate through a solve."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnode_dyn.numerics.adjoint import AdjointRun, attach
from rnode_dyn.numerics.backsolve import BacksolveRun
from rnode_dyn.numerics.checkpointed import CheckpointedRun
from rnode_dyn.numerics.dense import StateReader
from rnode_dyn.numerics.gradient_watch import GradientWatch
from rnode_dyn.numerics.interpolating import InterpolatingRun
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepper import Step

if TYPE_CHECKING:
    from rnode_dyn.numerics.solve import Solver


class Sensitivity(ABC):
    """How to differentiate through a solve."""

    def check(self, algorithm_parameters: Sequence[Tensor]) -> None:  # noqa: B027  # most can
        """Raise ``ValueError`` where an algorithm with these parameters cannot be used."""

    @abstractmethod
    def integrate(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> Tensor:
        """Return the states at ``times``, ``(len(times), batch, *event)``, with their gradient."""


@dataclass(frozen=True)
class DiscreteAdjoint(Sensitivity):
    """Backpropagation through the steps: the exact gradient of what was computed.

    Memory grows with the number of evaluations: every intermediate result of the field is kept.
    """

    def integrate(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> Tensor:
        """Return the states at ``times``; autograd records the steps.

        Raises:
            ValueError: if autograd would not see through the algorithm's steps.
        """
        watch = GradientWatch(stats, problem.x0.device.type)
        watched = replace(problem, x0=_watch_start(problem, solver, watch))
        rhs = CountedField(problem.field, stats)
        reader = StateReader(solver.algorithm, rhs, times)
        steps = _watch_steps(solver.steps(watched, rhs, stats), watch)
        return torch.stack(reader.all(watched.x0, problem.t_span[0], steps))


def _gradient_is_wanted(problem: ODEProblem) -> bool:
    return torch.is_grad_enabled() and problem.needs_gradient


def _refuse_opaque_steps(problem: ODEProblem, solver: "Solver") -> None:
    """Raise where a gradient is wanted and autograd does not see through the steps."""
    if _gradient_is_wanted(problem) and not solver.algorithm.backpropagates:
        raise ValueError(
            f"autograd does not see through the steps of {solver.algorithm.name}, so that this "
            "sensitivity would return wrong gradients: take BacksolveAdjoint(), or solve under "
            "torch.no_grad()."
        )


def _watch_start(problem: ODEProblem, solver: "Solver", watch: GradientWatch) -> Tensor:
    """Return the start as a tensor of its own whose gradient, the last to come, is looked at."""
    _refuse_opaque_steps(problem, solver)
    if not (_gradient_is_wanted(problem) and problem.x0.requires_grad):
        return problem.x0
    x0 = problem.x0.view_as(problem.x0)

    def check(grad: Tensor | None) -> None:
        watch.note(grad, problem.t_span[0], 0.0)
        watch.conclude()

    x0.register_hook(check)
    return x0


def _watch_steps(steps: Iterator[Step], watch: GradientWatch) -> Iterator[Step]:
    """Pass the steps on; look at the gradients of their ends on the way back."""
    last_to_come = True  # the first step's is, but for that of the start, if it is asked for
    for step in steps:
        if step.x1.requires_grad:
            step.x1.register_hook(_note(watch, step.t1, -step.dt, last_to_come))
            last_to_come = False
        yield step


def _note(
    watch: GradientWatch, t: float, dt: float, conclude: bool
) -> Callable[[Tensor | None], None]:
    def note(grad: Tensor | None) -> None:
        watch.note(grad, t, dt)
        if conclude:
            watch.conclude()

    return note


class _Adjoint(Sensitivity):
    """A sensitivity that computes the gradient by itself, apart from autograd's own record."""

    @abstractmethod
    def start(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return what will solve once, and once differentiate that solve."""

    def integrate(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> Tensor:
        """Return the states at ``times``, with this sensitivity as their backward pass."""
        return attach(self.start(problem, solver, times, stats))


@dataclass(frozen=True)
class CheckpointedAdjoint(_Adjoint):
    """The gradient of :class:`DiscreteAdjoint`, with only the states kept.

    The backward pass walks the accepted steps from the last to the first and makes each again,
    this time with a graph, which lives no longer than its step. One more forward solve buys
    memory that grows with the stored states alone.

    Args:
        every: Keep the state of every so many steps; a larger number keeps fewer states, and
            remakes that many steps at once.

    Example:
        >>> CheckpointedAdjoint(every=4)
        CheckpointedAdjoint(every=4)
    """

    every: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or self.every < 1:
            raise ValueError(
                f"CheckpointedAdjoint: every is {self.every!r}; write how many steps lie between "
                "two stored states, a whole number of at least 1."
            )

    def start(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that stores states."""
        _refuse_opaque_steps(problem, solver)
        return CheckpointedRun(problem, solver, times, stats, self.every)


class _ContinuousAdjoint(_Adjoint):
    """An adjoint of the ODE, stepped by the forward solve's algorithm."""

    def check(self, algorithm_parameters: Sequence[Tensor]) -> None:
        """Refuse a hypersolver: its network corrects steps of the state, not of the adjoint."""
        if algorithm_parameters:
            raise ValueError(
                f"{type(self).__name__} would step the adjoint with a hypersolver's network, which "
                "knows the state alone: take DiscreteAdjoint() or CheckpointedAdjoint()."
            )


@dataclass(frozen=True)
class BacksolveAdjoint(_ContinuousAdjoint):
    """The continuous adjoint, solved backwards together with the state (Pontryagin 1962; Chen et
    al., NeurIPS 2018, algorithm 1).

    Memory does not grow with the steps. The state is solved again backwards, so the gradient is
    exact only as the tolerances shrink, and wrong where the field contracts strongly.

    Args:
        seminorm: Leave the parameters' gradient, a mere integral, out of step-size control
            (Kidger, Chen & Lyons, "Hey, that's not an ODE", ICML 2021).
    """  # noqa: D205  # the citation belongs to the first sentence

    seminorm: bool = True

    def start(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that keeps the saved states only."""
        return BacksolveRun(problem, solver, times, stats, self.seminorm)


@dataclass(frozen=True)
class InterpolatingAdjoint(_ContinuousAdjoint):
    """The continuous adjoint over the forward solve's own dense output.

    Steadier than :class:`BacksolveAdjoint`, since the state is not solved backwards; the forward
    solve's slopes are kept. The gradient is exact as the tolerances shrink.
    """

    def start(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that keeps the forward steps."""
        return InterpolatingRun(problem, solver, times, stats)
