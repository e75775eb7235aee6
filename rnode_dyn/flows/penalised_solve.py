"""Solves whose penalties look at the steps, or at states on the way, beside the integrals."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rnode_dyn.flows.augmented import AugmentedField
from rnode_dyn.flows.solve_penalties import MadeStep, StatesPenalty, StepPenalty
from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.algorithms.of_method import OfMethod
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.numbers import as_number
from rnode_dyn.numerics.problem import ODEProblem, RightHandSide
from rnode_dyn.numerics.solution import Solution
from rnode_dyn.numerics.solve import Solver


class PenalisedSolve:
    """What to ask of a solve for rows of (log-determinant, penalties…, state), and what it says.

    ``solve(problem, asked.solver, save_at=asked.save_at)`` gives ``asked.rows(solution)``.

    Args:
        dynamics: The field of all.
        problem: The problem of all.
        solver: How to solve.
        times: When rows are wanted, the end of the solve last.

    Attributes:
        solver: The same, with steps that add what penalties say of them.
        save_at: The wanted times and those at which penalties look, in the order of the solve.

    Raises:
        ValueError: if a penalty does not go with the solver or the times.
    """

    def __init__(
        self, dynamics: AugmentedField, problem: ODEProblem, solver: Solver, times: list[Any]
    ) -> None:
        self._dynamics, self._problem, self._times = dynamics, problem, times
        self.solver = _watching_steps(solver, dynamics, problem)
        looking = [p for p in dynamics.regularizers if isinstance(p, StatesPenalty)]
        self._looks = [_Look(penalty, problem) for penalty in looking]
        between = [t for look in self._looks for t in look.times]
        asked = {as_number(t): t for t in [*between, *times]}
        self._ahead = sorted(asked, key=lambda t: problem.direction * t)  # type: ignore[operator]
        self.save_at = [asked[t] for t in self._ahead]

    def rows(self, solution: Solution) -> Tensor:
        """Rows at the wanted times, ``(len(times), batch, entries)``, penalties in the last."""
        if not self._looks:
            return solution.x
        row_at = dict(zip(self._ahead, solution.x.unbind(), strict=True))
        rows = [row_at[as_number(t)] for t in self._times]
        found: dict[str, Tensor] = {}
        for look in self._looks:
            between = [row_at[as_number(t)] for t in look.times]
            states = torch.stack([self._problem.x0, *between, rows[-1]])
            channels = self._dynamics.channels
            found[look.penalty.name] = look.penalty.of_states(look.places, states[:, :, channels:])
        rows[-1] = rows[-1] + _as_row(found, self._dynamics, rows[-1])
        return torch.stack(rows)


class _Look:
    """The times at which a penalty looks at the states of one solve.

    Attributes:
        places: All of them as fractions of the span, both ends included.
        times: Those between the ends; tensors where an end wants a gradient.
    """

    def __init__(self, penalty: StatesPenalty, problem: ODEProblem) -> None:
        t0, t1 = problem.t_span
        self.penalty, between = penalty, penalty.draw(problem.x0)
        self.places = torch.tensor([0.0, *between, 1.0], dtype=torch.float64, device="cpu")
        self.times = [t0 + (t1 - t0) * place for place in between]


def _as_row(found: dict[str, Tensor], dynamics: AugmentedField, like: Tensor) -> Tensor:
    """Return penalties, by their names, in their places of a row; zeros elsewhere."""
    nothing = like.new_zeros(len(like))
    columns = [found.get(penalty.name, nothing) for penalty in dynamics.regularizers]
    before = int(dynamics.has_log_det)
    return pad(torch.stack(columns, 1), (before, like.shape[1] - before - len(columns)))


def _watching_steps(solver: Solver, dynamics: AugmentedField, problem: ODEProblem) -> Solver:
    """The same solver, whose steps add what penalties say of them."""
    watching = [p for p in dynamics.regularizers if isinstance(p, StepPenalty)]
    for penalty in watching:
        penalty.check_solver(solver)
        penalty.check_times(problem.t_span)
    if not watching or not isinstance(solver.algorithm, ExplicitRungeKutta):
        return solver
    return replace(solver, algorithm=_PenalisedSteps(solver.algorithm, dynamics, watching))


class _PenalisedSteps(OfMethod[ExplicitRungeKutta]):
    """A method at the end of whose steps stands what penalties add for them.

    It is part of the step, so that whatever makes the step again, to differentiate it, does so too.

    Args:
        method: What steps.
        dynamics: What the rows are made of.
        penalties: Those that are sums over the steps.
    """

    def __init__(
        self, method: ExplicitRungeKutta, dynamics: AugmentedField, penalties: list[StepPenalty]
    ) -> None:
        super().__init__(method)
        self.dynamics, self.penalties = dynamics, penalties

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step, and add the penalties at its end."""
        step = self.method.advance(rhs, t, dt, x, slope)
        seen = self._seen(step)
        found = {penalty.name: penalty.of_step(seen) for penalty in self.penalties}
        step.x1 = step.x1 + _as_row(found, self.dynamics, step.x1)
        return step

    def _seen(self, step: Step) -> MadeStep:
        channels, log_det = self.dynamics.channels, int(self.dynamics.has_log_det)
        states = [slope[:, channels:] for slope in step.slopes]
        controlled = [
            torch.cat([slope[:, :log_det], state], 1) if log_det else state
            for slope, state in zip(step.slopes, states, strict=True)
        ]
        return MadeStep(self.method.tableau, step.dt, states, controlled)
