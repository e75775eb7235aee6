"""Choosing every sample's next step from its own errors: the control of one, in arrays."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import scaled
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.controller import PIController

# Takes scaled errors (n, *event) and returns one number a sample, (n,).
SampleNorm = Callable[[Tensor], Tensor]


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
    tolerances: tuple[float, float],
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
