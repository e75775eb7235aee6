"""Says in words what the schema allows, and what was given instead."""

from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Literal, get_args, get_origin

from rnode_dyn.recipe.keys import Spot, spot_of, table_at, without_none

_BOUNDS = {"ge": "of at least {}", "gt": "above {}", "le": "of at most {}", "lt": "below {}"}
_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LONGEST = 60


def allowed_at(spot: Spot) -> str:
    """What may stand at `spot`, in words.

    Example:
        >>> from rnode_dyn.recipe.tables import Count
        >>> allowed_at(spot_of(Count | None))
        'a whole number of at least 1'
    """
    if table_at(spot):
        return f"a table with {keys_at(spot)}"
    if get_origin(spot.kind) is Literal:
        return _one_of(get_args(spot.kind))
    if get_origin(spot.kind) is tuple:
        return f"{_bounded(_list(spot), spot.bounds)}, each entry {allowed_at(_entry(spot))}"
    if get_origin(spot.kind) is dict:
        return f"a table, each entry {allowed_at(spot_of(get_args(spot.kind)[1]))}"
    if spot.kind in _PLAIN:
        return _bounded(_PLAIN[spot.kind], spot.bounds)
    return " or ".join(allowed_at(spot_of(kind)) for kind in without_none(spot.kind))


def keys_at(spot: Spot) -> str:
    """The keys of the table at `spot`, in words."""
    table = table_at(spot)
    return f"the keys {', '.join(table.model_fields)}" if table else "no keys"


def choices_at(spot: Spot) -> tuple[str, ...]:
    """The names to choose from at `spot`, where that is what stands there."""
    literals = [kind for kind in without_none(spot.kind) if get_origin(kind) is Literal]
    return tuple(str(name) for kind in literals for name in get_args(kind))


def in_words(value: Any) -> str:
    """`value` as a recipe would have it, shortened.

    Example:
        >>> in_words(True), in_words([1, "a"]), in_words({"x": 1})
        ('true', "[1, 'a']", 'a table')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return _shortened(f"[{', '.join(map(in_words, value))}]")
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return _shortened(repr(value))


def with_kind(value: Any) -> str:
    """`value` as a recipe would have it, and what kind of value it is.

    Example:
        >>> with_kind("abc"), with_kind(2.5)
        ("'abc' (a string)", '2.5')
    """
    kind = _kind(value)
    return f"{in_words(value)} ({kind})" if kind else in_words(value)


def _kind(value: Any) -> str:
    """What kind of value `value` is, where its look does not say so."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    return ""


def _list(spot: Spot) -> str:
    """A list, and its length where that is given."""
    entries = get_args(spot.kind)
    return "a list" if Ellipsis in entries else f"a list of {len(entries)}"


def _entry(spot: Spot) -> Spot:
    return spot_of(get_args(spot.kind)[0])


def _one_of(names: tuple[Any, ...]) -> str:
    listed = ", ".join(map(str, names))
    return f"one of {listed}" if len(names) > 1 else f'"{listed}"'


def _bounded(words: str, bounds: tuple[Any, ...]) -> str:
    limits = " and ".join(_limits(bounds))
    return f"{words} {limits}" if limits else words


def _limits(bounds: tuple[Any, ...]) -> Iterator[str]:
    for bound in bounds:
        if getattr(bound, "min_length", 0):
            yield "that is not empty"
        for name, words in _BOUNDS.items():
            limit = getattr(bound, name, None)
            if limit is not None:
                yield words.format(limit)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
