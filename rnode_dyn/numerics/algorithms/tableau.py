"""The coefficients of an explicit Runge-Kutta method, kept as Python floats.

Floats, not tensors: a float32 tableau would cost a float64 solve eight of its digits.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

Fraction = TypeVar("Fraction", float, np.ndarray)


@dataclass(frozen=True)
class ButcherTableau:
    """Coefficients in Hairer, Nørsett & Wanner's notation (Solving ODEs I, II.1 and II.4).

    Args:
        a: Row ``i`` weighs the slopes that the state of stage ``i + 2`` is made of.
        b: Weights of the slopes in the solution.
        c: Times of the stages, as fractions of the step.
        b_embedded: Weights of a second solution of lower order; the difference estimates the
            error. ``None`` for a method without an estimate.
        interpolant: Row ``i`` holds the coefficients of θ, θ², θ³, … in the weight of slope ``i``
            at the fraction θ of the step. ``None`` where dense output is made otherwise.
        extra_a: Rows like those of ``a``, of further stages that the interpolant weighs too; they
            are evaluated where output within the step is wanted. A row equal to ``b`` is the end.
        extra_c: Their times.

    Example:
        >>> euler = ButcherTableau(a=(), b=(1.0,), c=(0.0,))
        >>> euler.stages, euler.first_same_as_last
        (1, False)
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    b_embedded: tuple[float, ...] | None = None
    interpolant: tuple[tuple[float, ...], ...] | None = None
    extra_a: tuple[tuple[float, ...], ...] = ()
    extra_c: tuple[float, ...] = ()

    @property
    def stages(self) -> int:
        """How many slopes one step takes."""
        return len(self.b)

    @cached_property
    def error(self) -> tuple[float, ...] | None:
        """Weights of the slopes in the error estimate: solution less embedded solution."""
        if self.b_embedded is None:
            return None
        return tuple(high - low for high, low in zip(self.b, self.b_embedded, strict=True))

    @cached_property
    def first_same_as_last(self) -> bool:
        """Whether the last slope is the next step's first, and so costs nothing."""
        return self.stages > 1 and self.b[-1] == 0.0 and self.a[-1] == self.b[:-1]

    def weights_at(self, theta: Fraction) -> tuple[Fraction, ...]:
        """Weights of the slopes at the fraction ``theta`` of a step, by the interpolant.

        Fractions of several samples, in an array, give arrays.
        """
        if self.interpolant is None:
            raise ValueError("this tableau has no interpolant; ask the algorithm for dense output.")
        return tuple(_polynomial(row, theta) for row in self.interpolant)


def _polynomial(coefficients: tuple[float, ...], theta: Fraction) -> Fraction:
    """Σ cᵢ θⁱ for i = 1, 2, …, by Horner's rule."""
    value = 0 * theta
    for coefficient in reversed(coefficients):
        value = theta * (coefficient + value)
    return value
