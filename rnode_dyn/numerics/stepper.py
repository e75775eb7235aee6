"""One step of a method: the interface that steppings use, and the explicit Runge-Kutta stepper."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchdyn.numerics.solvers.templates import DiffEqSolver

from rnode_dyn.numerics.tableau import ButcherTableau

# The right-hand side as the steppers call it: time is a Python float until it meets the field.
RightHandSide = Callable[[float, Tensor], Tensor]


@dataclass(eq=False)
class Step:
    """One step of a method, from ``(t, x0)`` to ``(t + dt, x1)``.

    Args:
        t: Start time.
        dt: Signed length.
        x0: State at the start.
        x1: State at the end.
        slopes: The field at the stages; the first is the field at the start.
        error: Estimate of the local error, where the method has one.
        end_slope: The field at the end, once somebody has evaluated it.
        ends_at: End time, where ``t + dt`` misses it by rounding.
    """

    t: float
    dt: float
    x0: Tensor
    x1: Tensor
    slopes: tuple[Tensor, ...]
    error: Tensor | None = None
    end_slope: Tensor | None = field(default=None, repr=False)
    ends_at: float | None = None
    kept_slopes: int = field(default=0, init=False, repr=False)
    keeps_end: bool = field(default=False, init=False, repr=False)

    @property
    def t1(self) -> float:
        """End time: ``ends_at`` where it is known, since ``t + dt`` may miss it by rounding."""
        return self.t + self.dt if self.ends_at is None else self.ends_at

    def give_up_tensors(self) -> list[Tensor]:
        """Return what dense output is made of, and keep only the times."""
        end = [] if self.end_slope is None else [self.end_slope]
        tensors = [self.x0, self.x1, *self.slopes, *end]
        self.x0 = self.x1 = self.x0.new_empty(0)
        self.kept_slopes, self.keeps_end = len(self.slopes), bool(end)
        self.slopes, self.end_slope, self.error = (), None, None
        return tensors

    def take_tensors(self, tensors: Iterator[Tensor]) -> None:
        """Take back, from the front of ``tensors``, what was given up."""
        self.x0, self.x1 = next(tensors), next(tensors)
        self.slopes = tuple(next(tensors) for _ in range(self.kept_slopes))
        self.end_slope = next(tensors) if self.keeps_end else None

    def slope_at_end(self, rhs: RightHandSide) -> Tensor:
        """Return the field at the end; it is evaluated at most once."""
        if self.end_slope is None:
            self.end_slope = rhs(self.t1, self.x1)
        return self.end_slope


class Algorithm(ABC):
    """How to step: what a stepping asks of a one-step method."""

    order: int

    @property
    def name(self) -> str:
        """The name shown to people."""
        return type(self).__name__

    @property
    def embedded_order(self) -> int | None:
        """Order of the solution that the error estimate compares with; ``None`` without one."""
        return None

    @property
    def backpropagates(self) -> bool:
        """Whether autograd sees through a step."""
        return True

    @abstractmethod
    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step; ``slope``, the field at the start, is evaluated when it is not given."""

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State at a time within ``step``, as accurate as the method's own global error.

        A cubic through both ends serves methods up to order 4; a more accurate method without an
        interpolant of its own makes a shorter step from the same start.
        """
        if t == step.t:
            return step.x0
        if t == step.t1:
            return step.x1
        if self.order <= 4:
            return hermite(step, step.slope_at_end(rhs), t)
        return self.advance(rhs, step.t, t - step.t, step.x0, step.slopes[0]).x1


def hermite(step: Step, end_slope: Tensor, t: float) -> Tensor:
    """Cubic through both ends of a step with the field's slopes there (local error O(dt⁴))."""
    s = (t - step.t) / step.dt
    start = torch.lerp(step.x0, step.x1, s * s * (3 - 2 * s))
    start = start.add(step.slopes[0], alpha=step.dt * s * (1 - s) ** 2)
    return start.add(end_slope, alpha=-step.dt * s * s * (1 - s))


def weighted_sum(
    x: Tensor, dt: float, weights: Sequence[float], slopes: Sequence[Tensor]
) -> Tensor:
    """``x + dt · Σ weights · slopes``, passing over the zeros of the tableau."""
    for weight, slope in zip(weights, slopes, strict=False):
        if weight != 0.0:
            x = x.add(slope, alpha=dt * weight)
    return x


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
        return weighted_sum(step.x0, step.dt, weights, step.slopes)

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
