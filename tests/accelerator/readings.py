"""Counting how often the host reads a value of the device, and from where."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import rnode_dyn

_LIBRARY = Path(rnode_dyn.__file__).parent
_STORED: list["Readings"] = []


@dataclass
class Readings:
    """What the host has read: a GPU is waited for once for each.

    Attributes:
        count: How many readings there were.
        kinds: How many by the operation, such as ``_local_scalar_dense`` for ``float(tensor)``.
        places: How many by the line of the library that asked for them.
    """

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"  {count:4} {place}" for place, count in self.places.most_common()]
        return "\n".join([f"{self.count} readings: {dict(self.kinds)}", *lines])


@contextmanager
def host_readings() -> Iterator[Readings]:
    """Count the readings inside; several counts may be nested."""
    readings = Readings()
    _STORED.append(readings)
    try:
        yield readings
    finally:
        _STORED.remove(readings)


def note_reading(kind: str) -> None:
    """Count one reading; the backward pass, which has a thread of its own, counts too."""
    if not _STORED:
        return
    place = _place()
    for readings in _STORED:
        readings.count += 1
        readings.kinds[kind] += 1
        readings.places[place] += 1


def _place() -> str:
    """The innermost line of the library on the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_LIBRARY):
            return f"{path.relative_to(_LIBRARY.parent)}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the library"
