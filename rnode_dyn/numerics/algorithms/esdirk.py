"""The stepper of methods whose stages are solved one after another, the first of them explicit."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step, weighted_sum
from rnode_dyn.numerics.algorithms.implicit import (
    ImplicitAlgorithm,
    Linearizable,
    Shifted,
    counted,
    void_where,
)
from rnode_dyn.numerics.algorithms.newton import UntilRounding, UntilTolerated, differentiable
from rnode_dyn.numerics.algorithms.of_method import OfMethod
from rnode_dyn.numerics.algorithms.stage_roots import Iterated, Known
from rnode_dyn.numerics.numbers import whole
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.transforms import within_transform

# Degree of what guesses a stage from the others, where an error says that the steps are short.
_DEGREE = 2


class Esdirk(ImplicitAlgorithm):
    """The stepper of methods with a common diagonal γ, whose last two stages end the step.

    One Jacobian and one factored matrix a step serve all stages, by the simplified Newton
    iteration; a stage that it is slow for gets one of its own. Adaptive steps iterate until what
    is left is a fifth of the tolerance, fixed ones until it is rounding. Where a gradient is wanted
    each stage is linearized once more, at its root: it is that of the implicit function theorem.

    Args:
        newton_iterations: Iterations of a stage after which it has failed: an adaptive step is
            then tried shorter, a fixed one raises ``NewtonError``.
    """

    gamma: ClassVar[float]
    rows: ClassVar[tuple[tuple[float, ...], ...]]
    dense: ClassVar[tuple[tuple[float, ...], ...]]
    lower_order: ClassVar[int]

    def __init__(self, newton_iterations: int = 10) -> None:
        self.newton_iterations = whole(type(self).__name__, "newton_iterations", newton_iterations)

    @property
    def embedded_order(self) -> int | None:
        """Order of the last stage but one, which ends at the same time."""
        return self.lower_order

    @property
    def interpolation_order(self) -> int:
        """The degree of its own polynomial in the stages."""
        return len(self.dense[0])

    @property
    def nodes(self) -> tuple[float, ...]:
        """The times of the stages, as fractions of a step."""
        return (0.0, *(sum(row) + self.gamma for row in self.rows))

    def started(self, tolerances: tuple[Any, Any] | None = None) -> Algorithm:
        """Return what makes the steps of one adaptive solve, as accurately as it asks for."""
        return self if tolerances is None else Tolerated(self, *tolerances)

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step, its stages solved to rounding."""
        return self.step(Iterated(self, UntilRounding()), rhs, t, dt, x, slope)

    def step(
        self,
        roots: Iterated | Known,
        rhs: RightHandSide,
        t: float,
        dt: float,
        x: Tensor,
        slope: Tensor | None,
    ) -> Step:
        """Make one step.

        Args:
            roots: What finds the roots of the stages' equations.
            rhs: The field.
            t: Start time.
            dt: Signed length.
            x: State at the start.
            slope: The field there, where it is known.
        """
        self._refuse_transforms()
        field, shift = counted(rhs), 1 / (self.gamma * dt)
        slopes, states = [field(t, x) if slope is None else slope], [x]
        with torch.no_grad():
            roots.begin(field, t, dt, x)
        for row, node in zip(self.rows, self.nodes[1:], strict=True):
            base = weighted_sum(x, dt, row, slopes)
            with torch.no_grad():
                z = roots.find(t + node * dt, base.detach(), slopes)
            z = _with_gradient(field, t + node * dt, base, z, shift)
            states.append(z)
            slopes.append((z - base) * shift)
        with torch.no_grad():
            error = states[-1] - states[-2]
        again = Remade(self, tuple(z.detach() for z in states[1:]))
        x1, stages = void_where(roots.failed, states[-1]), (slopes[0], *states[1:])
        # The last stage is the end of the step, and its slope the field there.
        end = slopes[-1]
        return Step(t, dt, x, x1, stages, error, end, failure=roots.failure, made_by=again)

    def _refuse_transforms(self) -> None:
        if within_transform():
            raise RuntimeError(
                f"{self.name} iterates until its changes are small, which cannot be read within "
                "torch.func's transforms (vmap, jacrev, …): take Rodas5P(), which iterates nothing."
            )

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State at a time within ``step``: a polynomial in the stages' states; no evaluation."""
        if t in (step.t, step.t1):
            return super().interpolate(rhs, step, t)
        return self.along(step, (t - step.t) / step.dt)

    def along(self, step: Step, theta: float) -> Tensor:
        """State at a fraction of a step, or beyond it."""
        weights = [sum(c * theta**p for p, c in enumerate(row, 1)) for row in self.dense]
        return weighted_sum(step.x0, 1.0, weights, self.dense_parts(step))

    @property
    def dense_powers(self) -> np.ndarray:
        """The same by powers of θ."""
        return np.array(self.dense).T

    def dense_parts(self, step: Step) -> list[Tensor]:
        """Return how far each stage is from the start."""
        return [state - step.x0 for state in step.slopes[1:]]


def _with_gradient(field: Linearizable, t: float, base: Tensor, z: Tensor, shift: float) -> Tensor:
    """The root with its gradient, where one is wanted."""
    if not torch.is_grad_enabled():
        return z
    residual = (base - z) * shift + field(t, z)
    if not residual.requires_grad:
        return z
    with torch.no_grad():
        at_root = Shifted.of(field, field.linearize(t, z), shift)
    return differentiable(residual, z, at_root)


class Remade(OfMethod[Esdirk]):
    """Makes one step again, whose stages are known: nothing is iterated.

    Args:
        method: What made the step.
        roots: Its stages.
    """

    def __init__(self, method: Esdirk, roots: tuple[Tensor, ...]) -> None:
        super().__init__(method)
        self.roots = roots

    def of_samples(self, places: Tensor) -> Algorithm:
        """Return the same of some samples."""
        return Remade(self.method, tuple(z.index_select(0, places) for z in self.roots))

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make the step."""
        return self.method.step(Known(self.roots), rhs, t, dt, x, slope)


class Tolerated(OfMethod[Esdirk]):
    """The steps of one adaptive solve: stages as accurate as its tolerance asks for.

    A step has been accepted where the next one begins at its end.

    Args:
        method: What makes the steps.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
    """

    def __init__(self, method: Esdirk, rtol: Any, atol: Any) -> None:
        super().__init__(method)
        self.rtol, self.atol = rtol, atol
        self.latest: Step | None = None
        self.previous: Step | None = None

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step."""
        latest = self.latest
        # Where each sample has steps of its own, no polynomial goes on from one to the next.
        if latest is not None and x is latest.x1 and t == latest.t1:
            self.previous = latest
        until = UntilTolerated(self.rtol * x.detach().abs() + self.atol)
        roots = Iterated(self.method, until, _DEGREE, self.previous)
        self.latest = self.method.step(roots, rhs, t, dt, x, slope)
        return self.latest
