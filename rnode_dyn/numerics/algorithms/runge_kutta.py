"""The stepper of every explicit Runge-Kutta method."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchdyn.numerics.solvers.templates import DiffEqSolver

from rnode_dyn.numerics.algorithms.base import (
    Algorithm,
    Fractions,
    Step,
    UnitTime,
    scaled,
    weighted_sum,
)
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau
from rnode_dyn.numerics.problem import RightHandSide


class ExplicitRungeKutta(DiffEqSolver, Algorithm):
    """The stepper of every explicit Runge-Kutta method, and torchdyn's solver template filled in.

    A method is a subclass with a ``tableau`` and an ``order``. Two instances of one method are
    equal, and stock torchdyn takes them: ``torchdyn.core.NeuralODE(f, solver=Tsit5())``.
    """

    tableau: ClassVar[ButcherTableau]
    order: ClassVar[int]  # type: ignore[assignment]  # torchdyn sets it on instances
    lower_order: ClassVar[int | None] = None

    def __init__(self) -> None:
        adaptive = self.lower_order is not None
        tableau, order = type(self).tableau, type(self).order
        super().__init__(order=order, stepping_class="adaptive" if adaptive else "fixed")
        # torchdyn's template has just set an empty one.
        self.tableau = tableau  # type: ignore[misc]

    @property
    def embedded_order(self) -> int | None:
        """Order of the embedded solution."""
        return self.lower_order

    @property
    def interpolation_order(self) -> int:
        """The degree of the tableau's own interpolant, where it has one, up to the order."""
        own = self.tableau.interpolant
        return super().interpolation_order if own is None else min(self.order, len(own[0]))

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step."""
        tableau = self.tableau
        slopes = [rhs(t, x) if slope is None else slope]
        state = x
        for row, c in zip(tableau.a, tableau.c[1:], strict=True):
            state = weighted_sum(x, dt, row, slopes)
            slopes.append(rhs(t + c * dt, state))
        if tableau.first_same_as_last:
            x1, end_slope = state, slopes[-1]
        else:
            x1, end_slope = weighted_sum(x, dt, tableau.b, slopes), None
        return Step(t, dt, x, x1, tuple(slopes), self._error(dt, slopes), end_slope)

    def _error(self, dt: float, slopes: Sequence[Tensor]) -> Tensor | None:
        """Estimate the local error; nothing is differentiated through it."""
        if self.tableau.error is None:
            return None
        with torch.no_grad():
            return weighted_sum(torch.zeros_like(slopes[0]), dt, self.tableau.error, slopes)

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State at a time within ``step``, by the tableau's own interpolant where it has one."""
        if self.tableau.interpolant is None or t in (step.t, step.t1):
            return super().interpolate(rhs, step, t)
        weights = self.tableau.weights_at((t - step.t) / step.dt)
        return weighted_sum(step.x0, step.dt, weights, self._dense_slopes(rhs, step))

    def interpolate_each(self, rhs: UnitTime, step: Step, theta: Fractions) -> Tensor:
        """State of every sample at a fraction of its own, by the same interpolant."""
        if self.tableau.interpolant is None:
            return super().interpolate_each(rhs, step, theta)
        x = step.x0
        slopes = self._dense_slopes(rhs, step)
        for weight, slope in zip(self.tableau.weights_at(theta), slopes, strict=True):
            x = x + scaled(slope, weight)
        return x

    def _dense_slopes(self, rhs: RightHandSide | UnitTime, step: Step) -> Sequence[Tensor]:
        """The slopes that the interpolant weighs; those of extra stages are evaluated once."""
        if not self.tableau.extra_a:
            return step.slopes
        if step.dense_slopes is None:
            slopes = list(step.slopes)
            for row, c in zip(self.tableau.extra_a, self.tableau.extra_c, strict=True):
                slopes.append(self._extra_slope(rhs, step, row, c, slopes))
            step.dense_slopes = tuple(slopes)
        return step.dense_slopes

    def _extra_slope(
        self,
        rhs: RightHandSide | UnitTime,
        step: Step,
        row: Sequence[float],
        c: float,
        slopes: Sequence[Tensor],
    ) -> Tensor:
        if row == self.tableau.b:
            return step.slope_at_end(rhs)
        return rhs(step.t + c * step.dt, weighted_sum(step.x0, step.dt, row, slopes))

    def step(
        self,
        f: Callable[..., Tensor],
        x: Tensor,
        t: Tensor,
        dt: Tensor,
        k1: Tensor | None = None,
        args: Any = None,  # part of torchdyn's template
    ) -> tuple:
        """Make one step the way torchdyn's ``odeint`` asks for it.

        Returns:
            ``(slope at the end, state, error estimate)``, followed by the stages' slopes for a
            method with an error estimate.
        """
        time, length = float(t.detach()), float(dt.detach())
        rhs = torchdyn_right_hand_side(f, t)
        step = self.advance(rhs, time, length, x, k1)
        if self.stepping_class == "fixed":
            return None, step.x1, None
        return step.slope_at_end(rhs), step.x1, step.error, step.slopes

    def sync_device_dtype(self, x: Tensor, t_span: Tensor) -> tuple[Tensor, Tensor]:
        """Move torchdyn's step-size constants to the state's device; the tableau is floats."""
        for constant in ("safety", "min_factor", "max_factor"):
            setattr(self, constant, getattr(self, constant).to(x.device))
        return x, t_span.to(x.device)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def torchdyn_right_hand_side(f: Callable[..., Tensor], like: Tensor) -> RightHandSide:
    """Give torchdyn's field the 0-dim time tensor that it expects."""

    def rhs(t: float, x: Tensor) -> Tensor:
        return f(torch.full((), t, dtype=like.dtype, device=like.device), x)

    return rhs
