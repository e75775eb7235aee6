"""The checkpointed discrete adjoint: store states, remake each step with a graph."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.numbers import whole
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.adjoint import Adjoint, AdjointRun, Gradients, add_up
from rnode_dyn.numerics.sensitivity.checkpointed_by_sample import SampleCheckpointedRun
from rnode_dyn.numerics.sensitivity.closures import refuse_unnamed_tensors
from rnode_dyn.numerics.sensitivity.gradient_watch import OTHER_STEP, GradientWatch
from rnode_dyn.numerics.sensitivity.opaque import refuse_opaque_steps
from rnode_dyn.numerics.sensitivity.replay import (
    Mark,
    RecordedAlgorithm,
    RecordedField,
    Replay,
    ReplayedField,
)
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.dense import StateReader
from rnode_dyn.numerics.stepping.integrator import Integrator


@dataclass
class _Made:
    """A step that was made: when, how long, what its evaluations found, and by which method."""

    t: float
    dt: float
    ends_at: float | None
    marks: Sequence[Mark]
    by: Algorithm | None


@dataclass
class _Segment:
    """A few successive steps, and the rows they save."""

    steps: list[_Made] = field(default_factory=list)
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
        self.backward_field = self.replayed = ReplayedField(problem, stats)
        self.every = every
        self.segments: list[_Segment] = []
        self.kept: list[Tensor] = []
        self.saves_start = times[0] == problem.span[0]
        self.recorded: RecordedField | None = None

    def prepare(self) -> None:
        """Note from now on what the field's evaluations find, if that changes."""
        device = self.problem.x0.device
        self.replay = Replay(device, self.written, self.random, self.draws)
        if self.replay.is_needed:
            known = self.forward_field.known
            self.forward_field = self.recorded = RecordedField(
                self.problem, self.stats, self.replay
            )
            self.recorded.known = known

    def forward(self, x0: Tensor) -> Tensor:
        """Solve, remembering where each step began and how long it was."""
        self.segments, self.kept = [], []
        reader = self.integrator.reader(self.forward_field, self.times)
        states, end = [state for _, state in reader.at_start(self.problem.span[0], x0)], x0
        for step in self._steps():
            segment = self._segment_for(step)
            for row, state in reader.within(step):
                segment.rows.append(row)
                states.append(state)
            if self.recorded is not None:
                segment.steps[-1].marks = tuple(self.recorded.marks)
            end = step.x1
        self.end_size = end.norm()
        return torch.stack(states)

    def _steps(self) -> Iterator[Step]:
        integrator = self.integrator
        if self.recorded is not None:
            recorded = RecordedAlgorithm(integrator.algorithm, self.recorded)
            integrator = replace(integrator, algorithm=recorded)
        return integrator.steps(self.problem, self.forward_field, self.stats)

    def _segment_for(self, step: Step) -> _Segment:
        if not self.segments or len(self.segments[-1].steps) == self.every:
            self.segments.append(_Segment())
            self.kept.append(step.x0.detach())
        self.segments[-1].steps.append(_Made(step.t, step.dt, step.ends_at, (), step.made_by))
        return self.segments[-1]

    def release(self) -> tuple[Tensor, ...]:
        """Hand over the start of every segment."""
        kept, self.kept = tuple(self.kept), []
        return kept

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> Gradients:
        """Differentiate the segments from the last to the first."""
        watch = GradientWatch(self.stats, grad.device.type)
        adjoint = torch.zeros_like(grad[0])
        totals: Sequence[Tensor | None] = [None] * len(self.parameters)
        same = []
        with self.replay.undone():
            for i in reversed(range(len(self.segments))):
                end, adjoint, gradients = self._differentiate(i, kept[i], adjoint, grad)
                totals = add_up(totals, gradients)
                last = i + 1 == len(kept)
                same.append(is_same(*((end.norm(), self.end_size) if last else (end, kept[i + 1]))))
                watch.note(adjoint, self.segments[i].steps[0].t, -self.segments[i].steps[0].dt)
        watch.conclude_all(totals, self.problem.span[0], same, OTHER_STEP)
        return (adjoint + grad[0] if self.saves_start else adjoint), totals

    def _differentiate(
        self, index: int, start: Tensor, adjoint: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
        """Return a segment's end, the adjoint at its start, and its gradients of the parameters."""
        segment, x0 = self.segments[index], start.detach().requires_grad_()
        with torch.enable_grad():
            end, saved = self._remake(segment, x0)
        refuse_unnamed_tensors(end, (x0, *self.parameters), self.problem.field)
        wanted = [adjoint, *(grad[row] for row in segment.rows)]
        at_start, *gradients = self.pull_back([end, *saved], x0, wanted)
        return end.detach(), torch.zeros_like(x0) if at_start is None else at_start, gradients

    def _remake(self, segment: _Segment, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Make the segment's steps again; return its end and the states saved within."""
        algorithm, rhs = self.integrator.algorithm, self.replayed
        reader = StateReader(algorithm, rhs, [self.times[row] for row in segment.rows])
        saved, slope = [], None
        for made in segment.steps:
            # The first mark is that of the slope at the start, which may be known by now.
            rhs.follow(self.replay, made.marks if slope is None else made.marks[1:])
            step = (made.by or algorithm).advance(rhs, made.t, made.dt, x, slope)
            step.ends_at, step.made_by = made.ends_at, made.by
            saved += [state for _, state in reader.within(step)]
            x, slope = step.x1, step.end_slope
        return x, saved


@dataclass(frozen=True)
class CheckpointedAdjoint(Adjoint):
    """The gradient of :class:`DiscreteAdjoint`, with only the states kept.

    The backward pass walks the accepted steps from the last to the first and makes each again,
    this time with a graph, which lives no longer than its step. One more forward solve buys
    memory that grows with the stored states alone. A field that draws random numbers from torch,
    or writes to buffers of its own, finds them at each evaluation as at the first time.

    Args:
        every: Keep the state of every so many steps, 1 or more; a larger number keeps fewer
            states, and remakes that many steps at once. Where every sample steps by itself
            (``AdaptiveStep(per_sample=True)``), each step is kept, and another number is refused.

    Example:
        >>> CheckpointedAdjoint(every=4)
        CheckpointedAdjoint(every=4)
    """

    differentiates_steps: ClassVar[bool] = True

    every: int = 1

    def __post_init__(self) -> None:
        wanted = "how many steps lie between two stored states, a whole number of at least 1"
        every = whole("CheckpointedAdjoint", "every", self.every, wanted)
        object.__setattr__(self, "every", every)

    def check_by_sample(self) -> None:
        """Each sample may step by itself, where every step is kept."""
        if self.every != 1:
            raise ValueError(
                f"CheckpointedAdjoint(every={self.every}) keeps the state of every so many steps "
                "of the batch, and with AdaptiveStep(per_sample=True) each sample has steps of "
                "its own: write every=1, or drop per_sample."
            )

    def start(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that stores states."""
        refuse_opaque_steps(problem, integrator)
        if integrator.per_sample:
            return SampleCheckpointedRun(problem, integrator, times, stats)
        return CheckpointedRun(problem, integrator, times, stats, self.every)
