"""The times that a solution is asked for, as people write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnode_dyn.numerics.numbers import as_number
from rnode_dyn.numerics.save_times import as_list, at_an_end


@dataclass(frozen=True)
class AskedTimes:
    """Times in any order, and those of them that differ in the order of the solve.

    Attributes:
        given: As they were given; those that want a gradient are tensors.
        distinct: The times as floats, each once, along the solve.
        places: For each of them, its places in ``given``.
        is_single: Whether one time alone was given, and no list of one.
    """

    given: Sequence[Any]
    distinct: Sequence[float]
    places: Sequence[Sequence[int]]
    is_single: bool


def asked_times(t: Any, span: tuple[float, float], rounding: float = 0.0) -> AskedTimes:
    """Sort the times that a solution is asked for.

    Args:
        t: A number, or several, as a list or a tensor of one dimension.
        span: Start and end of what was solved.
        rounding: Relative rounding of the span's own type.

    Raises:
        TypeError: if they are no numbers.
        ValueError: if one lies outside the span.

    Example:
        >>> asked = asked_times([0.5, 0.1, 0.5], (0.0, 1.0))
        >>> asked.distinct, asked.places
        ([0.1, 0.5], [[1], [0, 2]])
    """
    is_single = as_number(t) is not None and not getattr(t, "ndim", 0)
    given = [t] if is_single else as_list(t, "t")
    times = [at_an_end(each, span, rounding) for each in given]
    outside = [each for each in times if not min(span) <= each <= max(span)]
    if outside:
        raise ValueError(
            f"the solution is asked for at t = {outside[0]:.6g}, and it was solved from "
            f"{span[0]:.6g} to {span[1]:.6g}: solve over a span that holds this time."
        )
    distinct = sorted(set(times), reverse=span[1] < span[0])
    places = [[i for i, each in enumerate(times) if each == t] for t in distinct]
    return AskedTimes(given, distinct, places, is_single)
