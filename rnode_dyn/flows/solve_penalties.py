"""Penalties of a solve that are no rates along its trajectory, and which solves can have them."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rnode_dyn.flows.divergence import Linearization
from rnode_dyn.flows.quadrature import Quadrature
from rnode_dyn.flows.regularizers import Regularizer
from rnode_dyn.flows.share import drawn_fractions
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.solve import Solver

# How near to the ends of its part of the span a random time may come.
_MARGIN = 1e-3


class SolvePenalty(Regularizer):
    """A penalty that is known of a whole solve, or of its steps, and has no integrand."""

    needs_push: ClassVar[bool] = False
    needs_products: ClassVar[bool] = False

    def integrand(self, at: Linearization) -> Tensor:
        """Return zeros: nothing is integrated."""
        return at.value.new_zeros(len(at.value))

    def check_solver(self, solver: Solver) -> None:
        """Raise ``ValueError`` where a solver does not go with the penalty."""

    def check_times(self, times: Sequence[object]) -> None:
        """Raise ``ValueError`` where an end of the solve does not go with the penalty."""


class MadeStep(NamedTuple):
    """A step of an explicit Runge-Kutta method as penalties see it.

    Attributes:
        tableau: The method's coefficients.
        dt: The step's signed length.
        slopes: The state's slopes at the stages, each ``(batch, dimension)``.
        controlled: The same of all that adaptive steps control the error of: the state, and the
            log-determinant before it.
    """

    tableau: ButcherTableau
    dt: float
    slopes: Sequence[Tensor]
    controlled: Sequence[Tensor]


class StepPenalty(SolvePenalty):
    """A penalty that is a sum over the steps, differentiated through them."""

    @abstractmethod
    def of_step(self, step: MadeStep) -> Tensor:
        """Return what a step adds, ``(batch,)``."""

    def check_solver(self, solver: Solver) -> None:
        """Refuse a solver whose steps cannot be seen, or are not what is differentiated."""
        name, sensitivity = type(self).__name__, type(solver.sensitivity).__name__
        if not solver.sensitivity.differentiates_steps:
            raise ValueError(
                f"{name} is a sum over the steps, and {sensitivity} does not differentiate those: "
                "take CheckpointedAdjoint() or DiscreteAdjoint()."
            )
        if not isinstance(solver.algorithm, ExplicitRungeKutta):
            raise ValueError(  # noqa: TRY004  # the kind is right, and does not go with this
                f"{name} reads the stages of an explicit Runge-Kutta method, and "
                f"{solver.algorithm.name} shows none: take Tsit5() or Dopri5()."
            )
        if solver.integrator.per_sample:
            raise ValueError(
                f"{name} is a sum over the steps of the batch, and with per_sample every sample "
                "has its own: drop per_sample."
            )

    def check_times(self, times: Sequence[object]) -> None:
        """Refuse an end that wants a gradient, which would lack what the steps' lengths do."""
        if any(map(wants_gradient, times)):
            raise ValueError(
                f"{type(self).__name__} takes the lengths of the steps as constants, and a time "
                "that wants a gradient changes them: write end_time=end_time.item()."
            )


class StatesPenalty(SolvePenalty):
    """A penalty of the states at times drawn anew for every solve.

    Attributes:
        samples: How many times between the two ends.
        drawn: Times drawn beforehand, as fractions of the span, to use instead of new ones.
    """

    samples: int
    drawn: ClassVar[Sequence[float] | None] = None

    @abstractmethod
    def of_states(self, places: Tensor, states: Tensor) -> Tensor:
        """Return the penalty, ``(batch,)``.

        Args:
            places: Times as fractions of the span, from 0 to 1, ``(samples + 2,)``, float64 on the
                CPU.
            states: The states there, ``(samples + 2, batch, dimension)``.
        """

    def draw(self, like: Tensor) -> Sequence[float]:
        """Draw the times for states like these: a fraction in each of equal parts of the span."""
        if self.drawn is not None:
            return self.drawn
        within = _MARGIN + (1 - 2 * _MARGIN) * drawn_fractions(like, self.samples)
        return ((torch.arange(self.samples, device="cpu") + within) / self.samples).tolist()

    def drawn_once(self, like: Tensor) -> "StatesPenalty":
        """Return the same with the times of one solve, for every solve to come."""
        again = copy(self)
        object.__setattr__(again, "drawn", self.draw(like))
        return again


def check_solve_penalties(
    regularizers: Sequence[Regularizer],
    solvers: Sequence[Solver | None],
    end: object,
    quadratures: Sequence[Quadrature | None] = (),
) -> None:
    """Refuse penalties that a flow's or a layer's solves cannot have.

    Raises:
        ValueError: if a solver or the end does not go with one, or penalties are integrated at
            nodes.
    """
    for penalty in regularizers:
        if not isinstance(penalty, SolvePenalty):
            continue
        for solver in solvers:
            if solver is not None:
                penalty.check_solver(solver)
        penalty.check_times([end])
        at_nodes = [q for q in quadratures if q is not None and not q.at_stages]
        if at_nodes:
            raise ValueError(
                f"{type(penalty).__name__} is no integral that nodes could take, and the penalties "
                f'of this flow are at those of {at_nodes[0]}: write Quadrature("stages").'
            )
