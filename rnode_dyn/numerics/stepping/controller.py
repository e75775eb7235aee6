"""Choosing the next step's length from the error of the last ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm


@dataclass
class PIController:
    """Proportional-integral step-size control (Hairer & Wanner, Solving ODEs II, IV.2).

    Args:
        error_order: Order of the local error that is estimated: one more than that of the less
            accurate of the two solutions.
        safety: Aim below the tolerance by this factor.
        shrink: A step becomes shorter by no more than this factor.
        grow: A step becomes longer by no more than this factor.

    Example:
        >>> controller = PIController(error_order=5)
        >>> controller.after_rejection(32.0)  # 0.9 · 32^(-1/5)
        0.45
    """

    error_order: int
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 10.0
    previous_ratio: float = 1e-4
    just_rejected: bool = False

    def after_rejection(self, ratio: float) -> float:
        """Return the factor by which a rejected step shrinks; ``ratio`` is error / tolerance."""
        self.just_rejected = True
        factor = self.safety * ratio ** (-1 / self.error_order) if ratio < float("inf") else 0.0
        return max(self.shrink, min(1.0, factor))

    def after_acceptance(self, ratio: float) -> float:
        """Return the factor from an accepted step to the next; no growth after a rejection."""
        ratio = max(ratio, 1e-10)
        beta = 0.1 / self.error_order
        alpha = 1 / self.error_order - 0.75 * beta
        factor = self.safety * ratio**-alpha * self.previous_ratio**beta
        ceiling = 1.0 if self.just_rejected else self.grow
        self.previous_ratio, self.just_rejected = max(ratio, 1e-4), False
        return max(self.shrink, min(ceiling, factor))


def initial_step(
    rhs: RightHandSide,
    t_span: tuple[float, float],
    x0: Tensor,
    slope: Tensor,
    error_order: int,
    tolerances: tuple[float, float],
    norm: ErrorNorm,
) -> float:
    """Estimate a first step (Hairer, Nørsett & Wanner, Solving ODEs I, II.4); one evaluation.

    Returns:
        A positive length, no longer than the span; the caller knows the direction of time.
    """
    t0, span = t_span[0], abs(t_span[1] - t_span[0])
    direction = 1 if t_span[1] > t0 else -1
    rtol, atol = tolerances
    with torch.no_grad():
        scale = atol + rtol * x0.abs()
        size, speed = torch.stack([norm(x0 / scale), norm(slope / scale)]).tolist()
        trial = min(span, 1e-6 if min(size, speed) < 1e-5 else 0.01 * size / speed)
        ahead = rhs(t0 + direction * trial, x0.add(slope, alpha=direction * trial))
        curvature = float(norm((ahead - slope) / scale)) / trial
    fastest = max(speed, curvature)
    if not fastest < float("inf"):
        return trial
    if fastest <= 1e-15:
        return min(span, max(1e-6, trial * 1e-3))
    return min(span, 100 * trial, (0.01 / fastest) ** (1 / error_order))
