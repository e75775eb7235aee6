"""How to differentiate through a solve."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnode_dyn.numerics.adjoint import AdjointRun, attach
from rnode_dyn.numerics.backsolve import BacksolveRun
from rnode_dyn.numerics.checkpointed import CheckpointedRun
from rnode_dyn.numerics.dense import StateReader
from rnode_dyn.numerics.interpolating import InterpolatingRun
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.stats import CountedField, SolveStats

if TYPE_CHECKING:
    from rnode_dyn.numerics.solve import Solver


class Sensitivity(ABC):
    """How to differentiate through a solve."""

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
        """Return the states at ``times``; autograd records the steps."""
        rhs = CountedField(problem.field, stats)
        reader = StateReader(solver.algorithm, rhs, times)
        steps = solver.steps(problem, rhs, stats)
        return torch.stack(reader.all(problem.x0, problem.t_span[0], steps))


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
        return CheckpointedRun(problem, solver, times, stats, self.every)


@dataclass(frozen=True)
class BacksolveAdjoint(_Adjoint):
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
class InterpolatingAdjoint(_Adjoint):
    """The continuous adjoint over the forward solve's own dense output.

    Steadier than :class:`BacksolveAdjoint`, since the state is not solved backwards; the forward
    solve's slopes are kept. The gradient is exact as the tolerances shrink.
    """

    def start(
        self, problem: ODEProblem, solver: "Solver", times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that keeps the forward steps."""
        return InterpolatingRun(problem, solver, times, stats)
