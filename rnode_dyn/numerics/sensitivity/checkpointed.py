"""The checkpointed discrete adjoint: store states, remake each step with a graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.adjoint import Adjoint, AdjointRun, Gradients, add_up
from rnode_dyn.numerics.sensitivity.closures import refuse_unnamed_tensors
from rnode_dyn.numerics.sensitivity.gradient_watch import GradientWatch
from rnode_dyn.numerics.sensitivity.opaque import refuse_opaque_steps
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.dense import StateReader
from rnode_dyn.numerics.stepping.integrator import Integrator


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
        integrator: Integrator,
        times: Sequence[float],
        stats: SolveStats,
        every: int,
    ) -> None:
        super().__init__(problem, integrator, times, stats)
        self.every = every
        self.segments: list[_Segment] = []
        self.starts: list[Tensor] = []
        self.saves_start = times[0] == problem.t_span[0]

    def forward(self, x0: Tensor) -> Tensor:
        """Solve, remembering where each step began and how long it was."""
        self.segments, self.starts = [], []
        reader = StateReader(self.integrator.algorithm, self.forward_field, self.times)
        states = [state for _, state in reader.at_start(self.problem.t_span[0], x0)]
        for step in self.integrator.steps(self.problem, self.forward_field, self.stats):
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
        algorithm, rhs = self.integrator.algorithm, self.backward_field
        reader = StateReader(algorithm, rhs, [self.times[row] for row in segment.rows])
        saved, slope = [], None
        for t, dt, ends_at in segment.steps:
            step = algorithm.advance(rhs, t, dt, x, slope)
            step.ends_at = ends_at
            saved += [state for _, state in reader.within(step)]
            x, slope = step.x1, step.end_slope
        return x, saved


@dataclass(frozen=True)
class CheckpointedAdjoint(Adjoint):
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
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that stores states."""
        refuse_opaque_steps(problem, integrator)
        return CheckpointedRun(problem, integrator, times, stats, self.every)
