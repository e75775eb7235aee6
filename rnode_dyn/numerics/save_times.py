"""The times to save a state at, as people write them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rnode_dyn.numerics.numbers import as_number, rounding_of

# Arithmetic on times, a linspace say, may miss a time by a few roundings of its type.
_ROUNDINGS = 4


def as_list(given_times: Any, name: str = "save_at") -> list[Any]:
    """Return times as a list, those that want a gradient as tensors.

    Args:
        given_times: The times.
        name: Of the argument, for what there is to say of it.

    Raises:
        TypeError: if they are no list of numbers.
    """
    is_text = isinstance(given_times, str | bytes | dict)
    is_row = not is_text and getattr(given_times, "ndim", 1) == 1
    try:
        given = list(given_times) if is_row else None
    except TypeError:
        given = None
    if given is None or any(as_number(t) is None for t in given):
        raise TypeError(f"{name} is {given_times!r}; write a list of times, such as [0.5, 1.0].")
    if not given:
        raise ValueError(f"{name} is empty: name the times to return the state at.")
    return given


def save_times(
    span: tuple[float, float], given: Sequence[Any], rounding: float = 0.0
) -> list[float]:
    """Return the times to save the state at as floats, those at an end as that end itself.

    Times are compared within the rounding of the type they came in.

    Args:
        span: Start and end of the solve.
        given: The times.
        rounding: Relative rounding of the span's own type.

    Raises:
        ValueError: if a time lies outside the span, or the times do not run its way.

    Example:
        >>> import torch
        >>> save_times((0.1, 0.7), torch.tensor([0.1, 0.4, 0.7]))
        [0.1, 0.4000000059604645, 0.7]
    """
    times = [at_an_end(t, span, rounding) for t in given]
    t0, t1 = span
    ahead = 1 if t1 > t0 else -1
    outside = [t for t in times if not min(span) <= t <= max(span)]
    if outside:
        raise ValueError(f"save_at asks for t = {outside[0]}, outside the time span ({t0}, {t1}).")
    if any(ahead * (after - before) <= 0 for before, after in pairwise(times)):
        raise ValueError(
            f"save_at must run from {t0} towards {t1} without repeating a time: sort it"
            f"{', largest first' if ahead < 0 else ''}."
        )
    return times


def at_an_end(given: Any, span: tuple[float, float], rounding: float) -> float:
    """Return a time, or the end of the span that it is but for rounding."""
    t = as_number(given)
    t = math.nan if t is None else t
    slack = _ROUNDINGS * max(rounding_of(given), rounding) * max(abs(span[0]), abs(span[1]))
    close = [end for end in span if abs(t - end) <= slack]
    return min(close, key=lambda end: abs(t - end)) if close else t
