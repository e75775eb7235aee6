"""Where functions of one number change sign, many at once."""

from collections.abc import Callable

import numpy as np

# Bisection alone would be done by then.
_MOST_TURNS = 200


def first_behind(
    value: Callable[[np.ndarray], np.ndarray],
    before: np.ndarray,
    at_end: np.ndarray,
    tolerance: np.ndarray,
) -> np.ndarray:
    """Return points of (0, 1] just behind a change of sign, no farther than the tolerance.

    The Illinois variant of regula falsi (Dowell & Jarratt, BIT 11, 1971) between two known values,
    every third turn a bisection, so that the bracket shrinks whatever the function is.

    Args:
        value: Takes points ``(n,)`` to values ``(n,)``.
        before: Signs just behind 0, ``(n,)``: what the values at 0 cannot always tell.
        at_end: Values at 1, zero or of the other sign.
        tolerance: Width of the bracket to end with, ``(n,)``.

    Example:
        >>> theta = first_behind(lambda s: 0.3 - s, np.ones(1), np.array([-0.7]), np.array([1e-9]))
        >>> bool(0.3 <= theta[0] <= 0.3 + 1e-9)
        True
    """
    low, high = np.zeros_like(at_end), np.ones_like(at_end)
    at_low, at_high = np.full_like(at_end, np.nan), at_end.copy()
    moved_low = np.zeros(len(at_end), dtype=bool)
    for turn in range(_MOST_TURNS):
        if (high - low <= tolerance).all():
            break
        theta = _next_point(low, high, at_low, at_high, tolerance, bisect=turn % 3 == 2)
        now = value(theta)
        is_before = now * before > 0
        # The end that stays for a second time counts half: it would stay for ever.
        at_low = np.where(is_before, now, np.where(moved_low | (turn == 0), at_low, at_low / 2))
        at_high = np.where(is_before, np.where(moved_low, at_high / 2, at_high), now)
        low, high = np.where(is_before, theta, low), np.where(is_before, high, theta)
        moved_low = is_before
    return high


def _next_point(
    low: np.ndarray,
    high: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    tolerance: np.ndarray,
    bisect: bool,
) -> np.ndarray:
    """Where to look next: within the bracket, and off its ends by half of the tolerance."""
    middle = (low + high) / 2
    with np.errstate(all="ignore"):
        crossing = low + (high - low) * at_low / (at_low - at_high)
    theta = middle if bisect else np.where(np.isfinite(crossing), crossing, middle)
    margin = np.minimum(tolerance / 2, (high - low) / 2)
    return np.clip(theta, low + margin, high - margin)
