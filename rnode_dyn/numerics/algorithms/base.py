"""One step of a method: what a stepping asks of an algorithm, and what it gets."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.problem import RightHandSide

# A float64 number of its own for every sample, (batch,), kept where the step lengths are chosen.
Fractions = np.ndarray


class UnitTime(Protocol):
    """The field in the time of a step that runs from 0 to 1, one fraction a sample or one for all.

    Samples may cover different spans in it.
    """

    def __call__(self, s: float | Fractions, x: Tensor, /) -> Tensor:
        """Return dx/ds."""
        ...


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
        failure: Why there is no end, where equations could not be solved; ``x1`` is NaN then.
        made_by: What makes it again, where that is not the algorithm itself: one of several
            methods, or one that knows what was found by iterating.

    Attributes:
        dense_slopes: The slopes that dense output is made of, once it has evaluated more of them.
    """

    t: float
    dt: float
    x0: Tensor
    x1: Tensor
    slopes: tuple[Tensor, ...]
    error: Tensor | None = None
    end_slope: Tensor | None = field(default=None, repr=False)
    ends_at: float | None = None
    failure: str | None = field(default=None, kw_only=True)
    made_by: "Algorithm | None" = field(default=None, kw_only=True, repr=False)
    dense_slopes: tuple[Tensor, ...] | None = field(default=None, init=False, repr=False)
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
        self.slopes, self.end_slope, self.error, self.dense_slopes = (), None, None, None
        return tensors

    def with_tensors(self, tensors: Iterator[Tensor]) -> "Step":
        """Return the step as it was, taking from the front of ``tensors`` what it gave up."""
        x0, x1 = next(tensors), next(tensors)
        slopes = tuple(next(tensors) for _ in range(self.kept_slopes))
        end_slope = next(tensors) if self.keeps_end else None
        return Step(self.t, self.dt, x0, x1, slopes, end_slope=end_slope, ends_at=self.ends_at)

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
    def interpolation_order(self) -> int:
        """Order of dense output: within one step its error is O(dt^(order + 1)).

        Over a solve, states between the steps converge at this order plus one, and no faster than
        the method itself.
        """
        return min(self.order, 3) if self.order <= 4 else self.order

    @property
    def is_implicit(self) -> bool:
        """Whether a step solves equations, with the field's Jacobian."""
        return False

    @property
    def is_symplectic(self) -> bool:
        """Whether it steps the halves of a separable Hamiltonian, and no other field."""
        return False

    @property
    def backpropagates(self) -> bool:
        """Whether autograd sees through a step."""
        return True

    @property
    def switches(self) -> bool:
        """Whether its steps are of several methods, chosen as the solve goes on."""
        return False

    def started(self, tolerances: tuple[Any, Any] | None = None) -> "Algorithm":
        """Return what makes the steps of one adaptive solve: itself, where it remembers nothing.

        Args:
            tolerances: The solve's ``rtol`` and ``atol``.
        """
        return self

    def of_samples(self, places: Tensor) -> "Algorithm":
        """Return what makes the steps of some samples: itself, where it holds nothing for each.

        Args:
            places: Their places among those whose steps it makes, ``(n,)``.
        """
        return self

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

    def interpolate_each(self, rhs: UnitTime, step: Step, theta: Fractions) -> Tensor:
        """State of every sample at a fraction of its own of ``step``, as :meth:`interpolate` does.

        Args:
            rhs: The field in the step's own time.
            step: A step from time 0 to 1.
            theta: Fractions, ``(batch,)``.
        """
        if self.order <= 4:
            return hermite_each(step, step.slope_at_end(rhs), theta)

        def slower(s: float, x: Tensor) -> Tensor:
            return scaled(rhs(s * theta, x), theta)

        return self.advance(slower, 0.0, 1.0, step.x0, scaled(step.slopes[0], theta)).x1

    def slope_each(self, step: Step, theta: Fractions) -> Tensor | None:
        """Slope of dense output at a fraction of its own for every sample, in the step's time.

        ``None``: the field's own, at the state there, is as accurate as that state. In a stiff
        problem it is not: the field multiplies the state's error by its fastest rate.
        """
        return None

    def states_between(self, step: Step, fractions: np.ndarray) -> Tensor | None:
        """States at fractions of a step, the same for all samples, ``(k, batch, *event)``.

        They have no gradient. ``None`` where dense output may evaluate the field.
        """
        return None


def hermite(step: Step, end_slope: Tensor, t: float) -> Tensor:
    """Cubic through both ends of a step with the field's slopes there (local error O(dt⁴))."""
    s = (t - step.t) / step.dt
    start = torch.lerp(step.x0, step.x1, s * s * (3 - 2 * s))
    start = start.add(step.slopes[0], alpha=step.dt * s * (1 - s) ** 2)
    return start.add(end_slope, alpha=-step.dt * s * s * (1 - s))


def hermite_each(step: Step, end_slope: Tensor, theta: Fractions) -> Tensor:
    """:func:`hermite` at a fraction of its own of a step from time 0 to 1 for every sample."""
    rise = theta * theta * (3 - 2 * theta)
    start = step.x0 + scaled(step.x1 - step.x0, rise)
    start = start + scaled(step.slopes[0], theta * (1 - theta) ** 2)
    return start - scaled(end_slope, theta * theta * (1 - theta))


def scaled(x: Tensor, factors: Fractions) -> Tensor:
    """Return every sample of ``x``, ``(batch, *event)``, times a factor of its own.

    Example:
        >>> scaled(torch.ones(2, 1), np.array([1.0, 2.0])).tolist()
        [[1.0], [2.0]]
    """
    column = torch.from_numpy(factors).to(dtype=x.dtype, device=x.device)
    return x * column.reshape(-1, *[1] * (x.dim() - 1))


def weighted_sum(
    x: Tensor, dt: float, weights: Sequence[float], slopes: Sequence[Tensor]
) -> Tensor:
    """``x + dt · Σ weights · slopes``, passing over the zeros of the tableau."""
    for weight, slope in zip(weights, slopes, strict=False):
        if weight != 0.0:
            x = x.add(slope, alpha=dt * weight)
    return x
