"""The checkpointed discrete adjoint: store states, remake each step with a graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnode_dyn.numerics.adjoint import AdjointRun, Gradients, add_up
from rnode_dyn.numerics.closures import refuse_unnamed_tensors
from rnode_dyn.numerics.dense import StateReader
from rnode_dyn.numerics.gradient_watch import GradientWatch
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepper import Step

if TYPE_CHECKING:
    from rnode_dyn.numerics.solve import Solver


@dataclass
class _Segment:
    """A few successive steps, known by their lengths and the rows they save."""

    steps: list[tuple[float, float, float | None]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


class CheckpointedRun(AdjointRun):
    """Forward: keep every so many states. Backward: remake the steps between and differentiate."""

    def __init__(
        self,
        problem: ODEProblem,
        solver: "Solver",
        times: Sequence[float],
        stats: SolveStats,
        every: int,
    ) -> None:
        super().__init__(problem, solver, times, stats)
        self.every = every
        self.segments: list[_Segment] = []
        self.starts: list[Tensor] = []
        self.saves_start = times[0] == problem.t_span[0]

    def forward(self, x0: Tensor) -> Tensor:
        """Solve, remembering where each step began and how long it was."""
        self.segments, self.starts = [], []
        reader = StateReader(self.solver.algorithm, self.forward_field, self.times)
        states = [state for _, state in reader.at_start(self.problem.t_span[0], x0)]
        for step in self.solver.steps(self.problem, self.forward_field, self.stats):
            segment = self._segment_for(step)
            for row, state in reader.within(step):
                segment.rows.append(row)
                states.append(state)
        return torch.stack(states)

    def _segment_for(self, step: Step) -> _Segment:
        if not self.segments or len(self.segments[-1].steps) == self.every:
            self.segments.append(_Segment())
            self.starts.append(step.x0.detach())
        self.segments[-1].steps.append((step.t, step.dt, step.ends_at))
        return self.segments[-1]

    def release(self) -> tuple[Tensor, ...]:
        """Hand over the start of every segment."""
        kept, self.starts = tuple(self.starts), []
        return kept

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> Gradients:
        """Differentiate the segments from the last to the first."""
        watch = GradientWatch(self.stats, grad.device.type)
        parameters = self.parameters
        adjoint = torch.zeros_like(grad[0])
        totals: Sequence[Tensor | None] = [None] * len(parameters)
        for segment, start in zip(reversed(self.segments), reversed(kept), strict=True):
            x0 = start.detach().requires_grad_()
            with torch.enable_grad():
                end, saved = self._remake(segment, x0)
            refuse_unnamed_tensors(end, (x0, *parameters))
            adjoint, *gradients = torch.autograd.grad(
                [end, *saved],
                [x0, *parameters],
                [adjoint, *(grad[row] for row in segment.rows)],
                allow_unused=True,
            )
            totals = add_up(totals, gradients)
            t, dt, _ = segment.steps[0]
            watch.note(adjoint, t, -dt)
        watch.conclude()
        watch.conclude_parameters(totals, adjoint, self.problem.t_span[0])
        return (adjoint + grad[0] if self.saves_start else adjoint), totals

    def _remake(self, segment: _Segment, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Make the segment's steps again; return its end and the states saved within."""
        algorithm, rhs = self.solver.algorithm, self.backward_field
        reader = StateReader(algorithm, rhs, [self.times[row] for row in segment.rows])
        saved, slope = [], None
        for t, dt, ends_at in segment.steps:
            step = algorithm.advance(rhs, t, dt, x, slope)
            step.ends_at = ends_at
            saved += [state for _, state in reader.within(step)]
            x, slope = step.x1, step.end_slope
        return x, saved
