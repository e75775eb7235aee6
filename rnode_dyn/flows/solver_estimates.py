"""What a solver estimates of its own difficulties, as penalties."""

import math
from functools import cache
from itertools import combinations

import torch
from torch import Tensor

from rnode_dyn.flows.solve_penalties import MadeStep, StepPenalty
from rnode_dyn.numerics.algorithms.base import weighted_sum
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau
from rnode_dyn.numerics.solve import Solver


class ErrorEstimate(StepPenalty):
    """Σ |h| · ‖e‖ over the steps: dynamics of which the solver thinks itself sure.

    e is a step's own estimate of its local error, the difference of its two solutions, of all that
    adaptive steps control the error of; ‖e‖ is its root mean square over the entries of a sample,
    in their units, and h the step's length. The gradient passes through the stages; the lengths of
    the steps count as constants. Pal et al., Opening the blackbox, ICML 2021.

    Raises:
        ValueError: from the flow or the layer that it is given to, if the solver's method has no
            estimate, or its sensitivity does not differentiate the steps.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedODE, penalty
        >>> layer = RegularizedODE(MLPField(2), regularizers=[ErrorEstimate(100.0)])
        >>> layer(torch.zeros(4, 2)).shape, penalty(layer).shape
        (torch.Size([4, 2]), torch.Size([]))
    """

    name = "error_estimate"

    def check_solver(self, solver: Solver) -> None:
        """Refuse a solver that cannot tell its error."""
        super().check_solver(solver)
        if solver.algorithm.embedded_order is None:
            raise ValueError(
                f"ErrorEstimate needs a method that estimates its error, and "
                f"{solver.algorithm.name} does not: take Tsit5(), Dopri5() or Bosh3(), whose steps "
                "may be fixed."
            )

    def of_step(self, step: MadeStep) -> Tensor:
        """Return |h| · ‖e‖."""
        weights = step.tableau.error or ()
        error = weighted_sum(
            torch.zeros_like(step.controlled[0]), step.dt, weights, step.controlled
        )
        return abs(step.dt) * _norm(error) / math.sqrt(error.shape[1])


class Stiffness(StepPenalty):
    """Σ |h| · ‖Δf‖ / ‖Δx‖ over the steps: a field that changes little from place to place.

    Δx and Δf are the differences between two stages of a step at the same time, of the state alone:
    Shampine's estimate of the largest eigenvalue of ∂f/∂x, which is no larger than its norm. The
    gradient passes through the stages; the lengths of the steps count as constants. Pal et al.,
    Opening the blackbox, ICML 2021. Two such stages are nearly the same state where steps are
    short, so that little but rounding is left of the estimate in single precision.

    Raises:
        ValueError: from the flow or the layer that it is given to, if no two stages of the solver's
            method are at the same time, or its sensitivity does not differentiate the steps.

    Example:
        >>> from rnode_dyn import Dopri5, FixedStep, RegularizedFlow, Solver
        >>> solver = Solver(Dopri5(), FixedStep(0.5))
        >>> flow = RegularizedFlow(lambda t, x: -3 * x, solver, regularizers=[Stiffness(0.01)])
        >>> flow(torch.ones(1, 2, dtype=torch.float64)).penalties["stiffness"]
        tensor([3.0000], dtype=torch.float64)
    """

    name = "stiffness"

    def check_solver(self, solver: Solver) -> None:
        """Refuse a solver no two of whose stages can be compared."""
        super().check_solver(solver)
        if _at_one_time(solver.algorithm.tableau) is None:  # type: ignore[attr-defined]
            raise ValueError(
                f"Stiffness compares two stages at the same time, and {solver.algorithm.name} has "
                "none: take Tsit5(), Dopri5() or RK4()."
            )

    def of_step(self, step: MadeStep) -> Tensor:
        """Return |h| · ‖Δf‖ / ‖Δx‖, zero where both stages are the same state."""
        pair = _at_one_time(step.tableau)
        assert pair is not None  # check_solver() refuses methods without one
        moved = _norm(weighted_sum(torch.zeros_like(step.slopes[0]), step.dt, pair[2], step.slopes))
        changed = _norm(step.slopes[pair[1]] - step.slopes[pair[0]])
        return abs(step.dt) * changed / torch.where(moved > 0, moved, 1.0)


def _norm(x: Tensor) -> Tensor:
    """The Euclidean norm of each sample; where it is zero, so is its gradient."""
    return torch.linalg.vector_norm(x, dim=1)


@cache
def _at_one_time(tableau: ButcherTableau) -> tuple[int, int, tuple[float, ...]] | None:
    """The last two stages at one time, and how they weigh the slopes differently."""
    rows = [(0.0,) * tableau.stages]
    rows += [(*row, *(0.0,) * (tableau.stages - len(row))) for row in tableau.a]
    for i, j in reversed(list(combinations(range(tableau.stages), 2))):
        apart = tuple(b - a for a, b in zip(rows[i], rows[j], strict=True))
        if tableau.c[i] == tableau.c[j] and any(apart):
            return i, j, apart
    return None
