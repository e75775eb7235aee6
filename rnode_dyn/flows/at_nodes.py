"""The log-determinant and the penalties at nodes of their own, on the dense output of the state."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rnode_dyn.flows.augmented import AugmentedField
from rnode_dyn.flows.quadrature import Nodes
from rnode_dyn.numerics.checks import check
from rnode_dyn.numerics.errors import NonFiniteStateError
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.solve import Solver, solve
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.transforms import is_batched


class Weights(NamedTuple):
    """What a node counts for, as factors of the integrands there."""

    log_det: float
    penalties: float


@dataclass(frozen=True)
class Plan:
    """The nodes of one solve.

    Attributes:
        log_det: Those of the log-determinant; ``None``: it is solved for beside the state.
        penalties: Those of the penalties; ``None``: those of the log-determinant, or there are no
            penalties.
    """

    log_det: Nodes | None
    penalties: Nodes | None

    @property
    def has_nodes(self) -> bool:
        """Whether anything is integrated at nodes."""
        return self.log_det is not None or self.penalties is not None

    def over(self, span: tuple[float, float]) -> dict[float, Weights]:
        """Return what each time counts for, in the order in which a solve passes them."""
        log_det = {} if self.log_det is None else self.log_det.over(span)
        penalties = log_det if self.penalties is None else self.penalties.over(span)
        times = sorted({*log_det, *penalties}, reverse=span[1] < span[0])
        return {t: Weights(log_det.get(t, 0.0), penalties.get(t, 0.0)) for t in times}


def carry_at_nodes(
    dynamics: AugmentedField, problem: ODEProblem, plan: Plan, solver: Solver
) -> tuple[Tensor, SolveStats]:
    """Solve for the state, and integrate the rest at nodes on its dense output.

    The gradient goes through the states at the nodes, and so through the solver's sensitivity; the
    evaluations at the nodes themselves are differentiated by autograd, which keeps what they
    computed.

    Args:
        dynamics: The field of all: log-determinant, penalties, state.
        problem: The problem of all, as it would be solved at the stages.
        plan: The nodes.
        solver: How to solve.

    Returns:
        Rows of (log-determinant, penalties…, state) at the end, and what the solve cost, the
        evaluations at the nodes included.

    Raises:
        ValueError: if an end of the span wants a gradient, with which the nodes would move.
        NonFiniteStateError: if what is integrated is not finite at a node.
    """
    if any(map(wants_gradient, problem.t_span)):
        raise ValueError(
            "a time wants a gradient, with which the quadrature's nodes would move: write t.item() "
            'for it, or build the flow with Quadrature("stages").'
        )
    weights, end = plan.over(problem.span), problem.span[1]
    # Rounding may put the last node at the end itself.
    times = [*(t for t in weights if t != end), end]
    solution = solve(_to_solve(dynamics, problem, plan), solver, save_at=times)
    rows, solved = solution.x.flatten(2), int(plan.log_det is None)
    states = rows[:, :, solved:]
    integrals = _Integrals(dynamics, problem, solution.stats)
    for t, state in zip(times, states.unbind(), strict=True):
        if t in weights:
            integrals.add(t, weights[t], state)
    integrals.conclude()
    log_det = rows[-1, :, 0] if solved else integrals.log_det
    return torch.cat([log_det[:, None], integrals.penalties, states[-1]], 1), solution.stats


def _to_solve(dynamics: AugmentedField, problem: ODEProblem, plan: Plan) -> ODEProblem:
    """The problem of the state alone, or of the state and its log-determinant."""
    if plan.log_det is None:
        return _without_penalties(dynamics, problem)
    x = problem.x0[:, dynamics.channels :].reshape(-1, *dynamics.event_shape)
    return replace(problem, field=dynamics.field, x0=x, error_mask=None)


class _Integrals:
    """Sums over nodes."""

    def __init__(self, dynamics: AugmentedField, problem: ODEProblem, stats: SolveStats) -> None:
        self.problem, self.stats, self.start = problem, stats, problem.x0[:, : dynamics.channels]
        self.whole = CountedField(problem, stats)
        self.bare = CountedField(_without_penalties(dynamics, problem), stats)
        self.log_det, self.penalties = self.start[:, 0], self.start[:, 1:]
        self.finite: dict[float, Tensor] = {}

    def add(self, t: float, weight: Weights, state: Tensor) -> None:
        """Evaluate what is integrated at a node."""
        field, channels = (self.whole, self.start.shape[1]) if weight.penalties else (self.bare, 1)
        rates = field(t, torch.cat([self.start[:, :channels], state], dim=1))[:, :channels]
        self.finite[t] = torch.isfinite(rates.detach()).all(1)
        if weight.log_det:
            self.log_det = self.log_det + weight.log_det * rates[:, 0]
        if weight.penalties:
            self.penalties = self.penalties + weight.penalties * rates[:, 1:]

    def conclude(self) -> None:
        """Raise for the first node that is not finite; one reading for all of them.

        Within ``vmap`` there is nothing to be read; what is not finite is seen in the result.
        """
        finite = torch.stack(list(self.finite.values()))
        if not is_batched(finite):
            check(finite.all(), lambda: self._not_finite(finite.cpu()))

    def _not_finite(self, finite: Tensor) -> NonFiniteStateError:
        node = int((~finite.all(1)).int().argmax())
        return NonFiniteStateError(
            "the log-determinant or a penalty is not finite at a node of the quadrature",
            t=list(self.finite)[node],
            dt=0.0,
            steps=self.stats.accepted,
            nfe=self.stats.nfe,
            worst_sample=int((~finite[node]).int().argmax()),
        )


def _without_penalties(dynamics: AugmentedField, problem: ODEProblem) -> ODEProblem:
    y = torch.cat([problem.x0[:, :1], problem.x0[:, dynamics.channels :]], dim=1)
    # Without penalties nothing is left out of the error control.
    return replace(problem, field=dynamics.without_penalties(), x0=y, error_mask=None)
