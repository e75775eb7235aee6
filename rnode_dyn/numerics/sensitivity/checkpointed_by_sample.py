"""The checkpointed adjoint of steps that every sample takes by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.adjoint import AdjointRun, Gradients, add_up
from rnode_dyn.numerics.sensitivity.closures import refuse_unnamed_tensors
from rnode_dyn.numerics.sensitivity.gradient_watch import OTHER_STEP, GradientWatch
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.reader import Piece, SampleReader
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep, Stretch, make_step, rows
from rnode_dyn.numerics.stepping.integrator import Integrator


@dataclass
class _Made:
    """A step that some samples accepted.

    Attributes:
        stretch: From where to where.
        passed: How many of the saved times each of them had passed before.
        size: Norm of the states at its end.
    """

    stretch: Stretch
    passed: np.ndarray
    size: Tensor


class SampleCheckpointedRun(AdjointRun):
    """Forward: keep the states that each step began with. Backward: make it again, with a graph."""

    def __init__(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        times: Sequence[float],
        stats: SolveStats,
    ) -> None:
        super().__init__(problem, integrator, times, stats)
        self.batch = len(problem.x0)
        self.made: list[_Made] = []
        self.kept: list[Tensor] = []

    def prepare(self) -> None:
        """Refuse a field that is not the same function whenever it is evaluated."""
        if self.draws or self.written:
            raise ValueError(
                f"{self.name} makes the steps of each sample again by themselves, and this field "
                "draws random numbers or changes a buffer at each evaluation: freeze it, "
                "field.eval(), or drop per_sample."
            )

    def forward(self, x0: Tensor) -> Tensor:
        """Solve, remembering where each step began and how long it was."""
        self.made, self.kept = [], []
        reader = self._reader()
        pieces = list(reader.at_start(self.problem.span[0], x0))
        field = SampleField(self.forward_field, self.batch)
        for step in self.integrator.sample_steps(self.problem, field):
            passed = reader.passed[step.stretch.samples]
            self.made.append(_Made(step.stretch, passed, step.x1.norm()))
            self.kept.append(step.x0.detach())
            pieces += reader.within(step)
        return reader.assembled(pieces)

    def _reader(self) -> SampleReader:
        return SampleReader(self.integrator.algorithm, self.times, self.batch)

    def release(self) -> tuple[Tensor, ...]:
        """Hand over the states that the steps began with."""
        kept, self.kept = tuple(self.kept), []
        return kept

    def backward(self, grad: Tensor, kept: Sequence[Tensor]) -> Gradients:
        """Differentiate the steps from the last to the first."""
        watch = GradientWatch(self.stats, grad.device.type)
        adjoint = torch.zeros_like(grad[0])
        totals: Sequence[Tensor | None] = [None] * len(self.parameters)
        same = []
        field, flat = SampleField(self.backward_field, self.batch), grad.flatten(0, 1)
        for made, start in zip(reversed(self.made), reversed(kept), strict=True):
            places = rows(made.stretch.samples, grad)
            x0 = start.detach().requires_grad_()
            step, pieces = self._remake(made, x0, field)
            refuse_unnamed_tensors(step.x1, (x0, *self.parameters), self.problem.field)
            same.append(is_same(step.x1.detach().norm(), made.size))
            outputs, wanted = [step.x1], [adjoint.index_select(0, places)]
            for at, states in pieces:
                outputs.append(states)
                wanted.append(flat.index_select(0, rows(at, grad)))
            by_x, *gradients = self.pull_back(outputs, x0, wanted)
            by_x = torch.zeros_like(x0) if by_x is None else by_x
            adjoint = adjoint.index_copy(0, places, by_x)
            totals = add_up(totals, gradients)
            watch.note_samples(by_x, made.stretch, self.batch)
        watch.conclude_all(totals, self.problem.span[0], same, OTHER_STEP)
        saves_start = self.times[0] == self.problem.span[0]
        return (adjoint + grad[0] if saves_start else adjoint), totals

    def _remake(
        self, made: _Made, x0: Tensor, field: SampleField
    ) -> tuple[SampleStep, list[Piece]]:
        """Make a step again, with a graph, and read off it what was read before."""
        reader = self._reader()
        reader.passed[made.stretch.samples] = made.passed
        with torch.enable_grad():
            step = make_step(self.integrator.algorithm, field, made.stretch, x0, None)
            return step, list(reader.within(step))
