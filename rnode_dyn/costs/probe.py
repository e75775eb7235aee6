"""What a training solve asks of its field, found by doing one on the smallest field there is.

With fixed steps neither the evaluations nor what is kept for the gradient depends on the field, so
that every algorithm and sensitivity is counted by what it does, and none by a formula of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnode_dyn.costs.saved import SavedTensors
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.solve import Solver, solve
from rnode_dyn.numerics.stepping.fixed import FixedStep

# Long enough that the state is told from all else by its size.
_STATE = 1001
_MARK = 7


@dataclass(frozen=True)
class SolveCounts:
    """The cost of one solve and its gradient, in evaluations and states.

    Attributes:
        forward: Evaluations of the field in the forward pass.
        again: Evaluations while the gradient is computed.
        differentiated: Evaluations that are differentiated.
        states_kept: States kept between forward pass and gradient.
        graphs_kept: Evaluations whose intermediate results are kept likewise.
        graphs_added: The most that the gradient keeps beside those at a time.
    """

    forward: int
    again: int
    differentiated: int
    states_kept: int
    graphs_kept: int
    graphs_added: int


class _Marked(torch.autograd.Function):
    """−θ·x, keeping one tensor of a size of its own for every evaluation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor) -> Tensor:
        ctx.save_for_backward(x.new_empty(_MARK))
        return -0.1 * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return -0.1 * grad, grad.sum()


def count_solve(solver: Solver, end_time: float, save_at: Sequence[float] = ()) -> SolveCounts:
    """Count one solve of a block's training and its gradient.

    Args:
        solver: With fixed steps.
        end_time: The solve goes from 0 to it.
        save_at: When the state is wanted before the end.

    Example:
        >>> from rnode_dyn import RK4, CheckpointedAdjoint
        >>> count_solve(Solver(RK4(), FixedStep(0.25), CheckpointedAdjoint()), end_time=1.0)
        SolveCounts(forward=16, again=16, differentiated=16, states_kept=4, graphs_kept=0,
        graphs_added=4)
    """
    x0 = torch.zeros(1, _STATE, requires_grad=True)
    theta = torch.zeros((), requires_grad=True)
    problem = ODEProblem(lambda t, x: _Marked.apply(x, theta), x0, (0.0, end_time), (theta,))
    states, graphs = SavedTensors(measure=_is_state), SavedTensors(measure=_is_mark)
    with states:
        solution = solve(problem, solver, save_at=(*save_at, end_time))
        states_kept = states.now
    with graphs:
        solution = solve(problem, solver, save_at=(*save_at, end_time))
        graphs_kept = graphs.now
        solution.x.sum().backward()
    stats = solution.stats
    return SolveCounts(
        forward=stats.nfe,
        again=stats.nfe_backward,
        differentiated=stats.nvjp,
        states_kept=states_kept,
        graphs_kept=graphs_kept,
        graphs_added=graphs.peak - graphs_kept,
    )


def with_steps(solver: Solver, end_time: float, steps: int) -> Solver:
    """Return the solver with that many equal steps in place of its own."""
    return replace(solver, stepping=FixedStep(end_time / steps))


def steps_for(solver: Solver, evaluations: int) -> int:
    """Return how many steps take about so many evaluations, 1 or more."""
    if not isinstance(solver.algorithm, ExplicitRungeKutta):
        return max(1, evaluations)
    tableau = solver.algorithm.tableau
    shared = int(tableau.first_same_as_last)
    return max(1, round((evaluations - shared) / (tableau.stages - shared)))


def _is_state(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().nbytes() == _STATE * tensor.element_size())


def _is_mark(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().nbytes() == _MARK * tensor.element_size())
