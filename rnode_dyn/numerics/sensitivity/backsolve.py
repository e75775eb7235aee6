"""The backsolve adjoint: state, adjoint and gradient solved backwards together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.numerics.numbers import truth
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.adjoint import AdjointRun
from rnode_dyn.numerics.sensitivity.continuous import ContinuousAdjoint, ContinuousRun
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm
from rnode_dyn.numerics.stepping.integrator import Integrator


class BacksolveRun(ContinuousRun):
    """Keeps the saved states only; between them the state is solved backwards again."""

    def __init__(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        times: Sequence[float],
        stats: SolveStats,
        seminorm: bool,
    ) -> None:
        super().__init__(problem, integrator, times, stats)
        self.seminorm = seminorm
        self.kept: tuple[Tensor, ...] = ()
        self.end_speed: Tensor | None = None

    def forward(self, x0: Tensor) -> Tensor:
        """Solve, keeping the saved states and the end."""
        end, end_slope = x0, None
        reader = self.integrator.reader(self.forward_field, self.times)
        states = [state for _, state in reader.at_start(self.problem.span[0], x0)]
        for step in self._forward_steps():
            states += [state for _, state in reader.within(step)]
            end, end_slope = step.x1, step.end_slope
        self.kept = (torch.stack(states), end)
        # Its size alone: enough to tell another field by, and no further state to keep.
        self.end_speed = None if end_slope is None else end_slope.norm()
        return self.kept[0]

    def release(self) -> tuple[Tensor, ...]:
        """Hand over the saved states and the end."""
        kept, self.kept = self.kept, ()
        return kept

    def take_back(self, kept: Sequence[Tensor]) -> None:
        """Take the saved states and the end back."""
        self.kept = tuple(kept)

    def let_go(self) -> None:
        """Forget the saved states."""
        self.kept = ()

    def pack(self, row: int | None, adjoint: Tensor, gradient: Tensor) -> Tensor:
        """Begin each span at the stored state, not at the one solved back to it."""
        states, end = self.kept
        state = end if row is None else states[row]
        return torch.cat([state.reshape(-1), adjoint.reshape(-1), gradient])

    def unpack(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and g."""
        _, adjoint, gradient = self._parts(y)
        return adjoint, gradient

    def _parts(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = self.problem.x0.numel()
        state, adjoint = y[:size], y[size : 2 * size]
        return state.view_as(self.problem.x0), adjoint.view_as(self.problem.x0), y[2 * size :]

    def slopes(self, t: float, y: Tensor) -> Tensor:
        """Return f, −aᵀ ∂f/∂x and −aᵀ ∂f/∂θ as one vector."""
        state, adjoint, _ = self._parts(y)
        slope, by_x, by_parameters = self.vjp(t, state, adjoint)
        if t == self.problem.span[1]:
            self.note(slope.norm(), self.end_speed)
        return torch.cat([slope.reshape(-1), -by_x.reshape(-1), -by_parameters])

    def error_norm(self) -> ErrorNorm:
        """Judge state and adjoint each by itself; the gradient too, without the seminorm."""
        of_state = self.integrator.stepping.error_norm(self.problem.error_mask)
        of_adjoint = self.integrator.stepping.error_norm(None)

        def norm(scaled: Tensor) -> Tensor:
            state, adjoint, gradient = self._parts(scaled)
            largest = torch.maximum(of_state(state), of_adjoint(adjoint))
            if self.seminorm or gradient.numel() == 0:
                return largest
            return torch.maximum(largest, gradient.square().mean().sqrt())

        return norm


@dataclass(frozen=True)
class BacksolveAdjoint(ContinuousAdjoint):
    """The continuous adjoint, solved backwards together with the state (Pontryagin 1962; Chen et
    al., NeurIPS 2018, algorithm 1).

    Memory does not grow with the steps. The state is solved again backwards, so the gradient is
    exact only as the tolerances shrink, and wrong where the field contracts strongly.

    Args:
        seminorm: Leave the parameters' gradient, a mere integral, out of step-size control
            (Kidger, Chen & Lyons, "Hey, that's not an ODE", ICML 2021).
    """  # noqa: D205  # the citation belongs to the first sentence

    seminorm: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "seminorm", truth("BacksolveAdjoint", "seminorm", self.seminorm))

    def start(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> AdjointRun:
        """Return the run that keeps the saved states only."""
        return BacksolveRun(problem, integrator, times, stats, self.seminorm)
