"""Choosing every sample's next step: from its own errors, as one would, or of equal length."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, scaled
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep
from rnode_dyn.numerics.stepping.controller import PIController

# Takes scaled errors (n, *event) and returns one number a sample, (n,).
SampleNorm = Callable[[Tensor], Tensor]


class Control(Protocol):
    """What chooses the lengths of steps, and judges them."""

    @property
    def max_steps(self) -> int:
        """Steps that one sample may try."""
        ...

    @property
    def too_many(self) -> str:
        """What to say once they are spent."""
        ...

    @property
    def max_seconds(self) -> float | None:
        """Seconds that the solve may take."""
        ...

    @property
    def tolerances(self) -> tuple[Any, Any] | None:
        """``rtol`` and ``atol``, where steps keep to them."""
        ...

    def first(
        self, field: SampleField, t_span: tuple[float, float], x: Tensor, slope: Tensor
    ) -> np.ndarray:
        """Return the lengths of the first steps, ``(batch,)``."""
        ...

    def ratio(self, step: SampleStep) -> np.ndarray:
        """Return errors over the tolerance, ``(n,)``: above 1, a sample's step is rejected."""
        ...

    def following(self, step: SampleStep, lengths: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Return the lengths of the next steps, ``(n,)``, given those that were asked for."""
        ...

    def anew(self, remaining: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the lengths where a solve goes on from another state, with so much to go."""
        ...


@dataclass(frozen=True)
class Limits:
    """What an adaptive solve keeps to.

    Attributes:
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        first_step: Length of the first step; estimated where it is left out.
        max_steps: Steps that one sample may try.
        too_many: What to say once they are spent.
        max_seconds: Seconds that the solve may take.
    """

    rtol: Any
    atol: Any
    first_step: float | None
    max_steps: int
    too_many: str
    max_seconds: float | None = None


class AdaptiveControl:
    """Steps as long as each sample's error allows.

    Args:
        limits: Tolerances and bounds.
        algorithm: What steps.
        norm: The norm of each sample's error.
        batch: How many samples.
    """

    def __init__(self, limits: Limits, algorithm: Algorithm, norm: SampleNorm, batch: int) -> None:
        self.limits, self.norm = limits, norm
        self.max_steps, self.too_many = limits.max_steps, limits.too_many
        self.max_seconds = limits.max_seconds
        self.tolerances = (limits.rtol, limits.atol)
        self.error_order = min(algorithm.order, algorithm.embedded_order or 0) + 1
        self.controllers = SampleControllers(PIController(self.error_order), batch)

    def first(
        self, field: SampleField, t_span: tuple[float, float], x: Tensor, slope: Tensor
    ) -> np.ndarray:
        """Return the lengths of the first steps, estimated unless they are given."""
        first_step, order = self.limits.first_step, self.error_order
        if first_step is not None:
            return np.full(len(x), first_step)
        return initial_steps(field, t_span, x, slope, order, self.tolerances, self.norm)

    @torch.no_grad()
    def ratio(self, step: SampleStep) -> np.ndarray:
        """Error over tolerance, infinite where a step left the finite numbers anywhere."""
        ratio = self.norm(self.scaled_error(step))
        return on_host(torch.where(_sound(step) & torch.isfinite(ratio), ratio, torch.inf))

    @torch.no_grad()
    def scaled_error(self, step: SampleStep) -> Tensor:
        """The error of each entry over its tolerance."""
        assert step.unit.error is not None  # check() admits no algorithm without an estimate
        scale = torch.maximum(step.x0.abs(), step.x1.abs()).mul_(self.limits.rtol)
        return step.unit.error / scale.add_(self.limits.atol)

    def following(self, step: SampleStep, lengths: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Lengths by PI control; from the tried one, where it was cut at the end and rejected."""
        tried = np.where(ratio <= 1.0, lengths, np.abs(step.stretch.dt))
        return tried * self.controllers.factors(step.stretch.samples, ratio)

    def anew(self, remaining: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The lengths as they are: the error of the next steps will tell."""
        return np.minimum(lengths, remaining)


@dataclass(frozen=True)
class FixedControl:
    """Equal steps, none longer than ``dt``.

    Attributes:
        dt: Longest step.
        max_steps: Steps that one sample may make.
        too_many: What to say once they are spent.
        max_seconds: Seconds that the solve may take.
    """

    dt: float
    max_steps: int
    too_many: str
    max_seconds: float | None = None
    tolerances: None = None

    def first(
        self, field: SampleField, t_span: tuple[float, float], x: Tensor, slope: Tensor
    ) -> np.ndarray:
        """Return the length of all steps."""
        return self.anew(np.full(len(x), abs(t_span[1] - t_span[0])), np.empty(0))

    def ratio(self, step: SampleStep) -> np.ndarray:
        """Zero, and infinite where a step left the finite numbers."""
        return np.where(on_host(_sound(step)) > 0, 0.0, np.inf)

    def following(self, step: SampleStep, lengths: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """The same lengths; none where a step cannot be made."""
        return np.where(ratio <= 1.0, lengths, 0.0)

    def anew(self, remaining: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """As many equal steps as it takes for the rest."""
        return remaining / np.maximum(1, np.ceil(remaining / self.dt - 1e-9))


def _sound(step: SampleStep) -> Tensor:
    """Which samples have come to finite states, ``(n,)``."""
    return torch.isfinite(step.x1.detach()).flatten(1).all(1)


class SampleControllers:
    """A :class:`PIController` for every sample.

    Args:
        settings: Its constants, the same for all.
        batch: How many samples.

    Example:
        >>> controllers = SampleControllers(PIController(error_order=5), batch=2)
        >>> controllers.factors(np.array([0, 1]), np.array([32.0, 1.0])).round(3).tolist()
        [0.45, 0.749]
    """

    def __init__(self, settings: PIController, batch: int) -> None:
        self.settings = settings
        self.previous_ratio = np.full(batch, settings.previous_ratio)
        self.just_rejected = np.zeros(batch, dtype=bool)

    def factors(self, samples: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Return the factors from the steps that were tried to the next ones, ``(n,)``.

        Args:
            samples: Places in the batch, ``(n,)``.
            ratio: Error / tolerance, ``(n,)``; a step above 1 is rejected.
        """
        passed = ratio <= 1.0
        factors = np.where(
            passed, self._after_acceptance(samples, ratio), self._after_rejection(ratio)
        )
        self.just_rejected[samples] = ~passed
        self.previous_ratio[samples[passed]] = np.maximum(ratio[passed], 1e-4)
        return factors

    def _after_rejection(self, ratio: np.ndarray) -> np.ndarray:
        one = self.settings
        # An infinite error leaves 0, and the step shrinks as far as it may.
        factor = one.safety * np.maximum(ratio, 1.0) ** (-1 / one.error_order)
        return np.clip(factor, one.shrink, 1.0)

    def _after_acceptance(self, samples: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        one = self.settings
        beta = 0.1 / one.error_order
        alpha = 1 / one.error_order - 0.75 * beta
        factor = one.safety * np.maximum(ratio, 1e-10) ** -alpha
        factor = factor * self.previous_ratio[samples] ** beta
        ceiling = np.where(self.just_rejected[samples], 1.0, one.grow)
        return np.maximum(one.shrink, np.minimum(ceiling, factor))


@torch.no_grad()
def initial_steps(
    field: SampleField,
    t_span: tuple[float, float],
    x0: Tensor,
    slope: Tensor,
    error_order: int,
    tolerances: tuple[Any, Any],
    norm: SampleNorm,
) -> np.ndarray:
    """Estimate every sample's first step, as ``initial_step`` does; one evaluation.

    Returns:
        Positive lengths, ``(batch,)``, none longer than the span.
    """
    samples, span = np.arange(len(x0)), abs(t_span[1] - t_span[0])
    direction = 1 if t_span[1] > t_span[0] else -1
    rtol, atol = tolerances
    scale = atol + rtol * x0.abs()
    with np.errstate(all="ignore"):
        size, speed = on_host(torch.stack([norm(x0 / scale), norm(slope / scale)]))
        trial = np.where(np.minimum(size, speed) < 1e-5, 1e-6, 0.01 * size / speed)
        trial = np.minimum(span, trial)
        ahead = x0 + scaled(slope, direction * trial)
        ahead = field(samples, t_span[0] + direction * trial, ahead)
        curvature = on_host(norm((ahead - slope) / scale)) / trial
        fastest = np.maximum(speed, curvature)
        length = np.minimum(100 * trial, (0.01 / fastest) ** (1 / error_order))
    still = np.minimum(span, np.maximum(1e-6, trial * 1e-3))
    length = np.where(fastest <= 1e-15, still, np.minimum(span, length))
    return np.where(fastest < np.inf, length, trial)


def on_host(numbers: Tensor) -> np.ndarray:
    """Numbers of the device as an array of float64."""
    return numbers.detach().cpu().double().numpy()
