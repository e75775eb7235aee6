"""The interpolating adjoint: adjoint and gradient over the forward solve's dense output."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.adjoint import AdjointRun
from rnode_dyn.numerics.sensitivity.continuous import ContinuousAdjoint, ContinuousRun
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.dense import DenseSolution
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm
from rnode_dyn.numerics.stepping.integrator import Integrator


class InterpolatingRun(ContinuousRun):
    """Keeps the forward steps, and reads the state off them while the adjoint runs back."""

    steps: list[Step]
    state: DenseSolution

    def forward(self, x0: Tensor) -> Tensor:
        """Solve, keeping every step with its slopes."""
        self.steps = []
        reader = self.integrator.reader(self.forward_field, self.times)
        states = [state for _, state in reader.at_start(self.problem.span[0], x0)]
        for step in self._forward_steps():
            step.error = None
            states += [state for _, state in reader.within(step)]
            if self.steps:
                # One step's first slope is the field at the end of the step before.
                self.steps[-1].end_slope = step.slopes[0]
            self.steps.append(step)
        return torch.stack(states)

    def release(self) -> tuple[Tensor, ...]:
        """Hand over the tensors of the steps; what is left of a step says when it was."""
        kept: list[Tensor] = []
        for step in self.steps:
            kept += step.give_up_tensors()
        return tuple(kept)

    def take_back(self, kept: Sequence[Tensor]) -> None:
        """Put the tensors back into their steps."""
        tensors = iter(kept)
        # Steps of their own: dense output adds to them, and the gradient may be asked for again.
        steps = [step.with_tensors(tensors) for step in self.steps]
        self.state = DenseSolution(self.integrator.algorithm, self.backward_field, steps)

    def let_go(self) -> None:
        """Forget the dense output."""
        del self.state

    def pack(self, row: int | None, adjoint: Tensor, gradient: Tensor) -> Tensor:
        """The state comes from the dense output; the vector holds a and g."""
        return torch.cat([adjoint.reshape(-1), gradient])

    def unpack(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and g."""
        size = self.problem.x0.numel()
        return y[:size].view_as(self.problem.x0), y[size:]

    def slopes(self, t: float, y: Tensor) -> Tensor:
        """Return −aᵀ ∂f/∂x and −aᵀ ∂f/∂θ as one vector."""
        adjoint, _ = self.unpack(y)
        slope, by_x, by_parameters = self.vjp(t, self.state(t), adjoint)
        if t == self.problem.span[0]:
            self.note(slope, self.first)
        return torch.cat([-by_x.reshape(-1), -by_parameters])

    def error_norm(self) -> ErrorNorm:
        """Judge the adjoint; the gradient is a mere integral along it."""
        of_adjoint = self.integrator.stepping.error_norm(None)
        return lambda scaled: of_adjoint(self.unpack(scaled)[0])


@dataclass(frozen=True)
class InterpolatingAdjoint(ContinuousAdjoint):
    """The continuous adjoint over the forward solve's own dense output.

    Steadier than :class:`BacksolveAdjoint`, since the state is not solved backwards; the forward
    solve's slopes are kept. The gradient is exact as the tolerances shrink.
    """

    def start(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that keeps the forward steps."""
        return InterpolatingRun(problem, integrator, times, stats)
