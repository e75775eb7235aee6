"""Runs that differ in their seeds alone, taken together: means with their standard errors."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, NamedTuple

from rnode_dyn.runs.changes import leaves
from rnode_dyn.runs.record import RunRecord, labels

_SAY_NOTHING = ("name", "title")
_SEED = "seed"
# Labels of more keys than this are longer than names.
_MOST_KEYS = 3


class Figure(NamedTuple):
    """A figure, and how well it is known.

    Attributes:
        value: The mean over the runs.
        stderr: Its standard error: over the runs, or of a single run its own; ``None`` where it
            is not known.
    """

    value: float
    stderr: float | None


@dataclass(frozen=True)
class Group:
    """Runs of the same recipe but for the seed.

    Attributes:
        label: What distinguishes them from other groups.
        runs: The runs.
    """

    label: str
    runs: tuple[RunRecord, ...]

    def figure(self, key: str) -> Figure | None:
        """Return a figure of ``summary.json`` over the finished runs; ``None`` without any."""
        finished = [run.summary for run in self.runs if run.summary is not None]
        values = [float(s[key]) for s in finished if isinstance(s.get(key), int | float)]
        if not values:
            return None
        if len(values) > 1:
            return Figure(mean(values), stdev(values) / math.sqrt(len(values)))
        return Figure(values[0], finished[0].get(f"{key}_stderr"))


def differing_keys(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Return the recipe keys that are not the same in all runs, with the value of each run.

    Example:
        >>> from pathlib import Path
        >>> from rnode_dyn.runs.folder import RunFolder
        >>> differing_keys([
        ...     RunRecord(RunFolder(Path("run")), {"name": "x", "seed": s, "train": t}, None, ())
        ...     for s, t in ((0, {}), (1, {"epochs": 5}))
        ... ])
        {'seed': [0, 1], 'train.epochs': [None, 5]}
    """
    tables = [dict(leaves(run.recipe)) for run in runs]
    keys = dict.fromkeys(key for table in tables for key in table if key not in _SAY_NOTHING)
    values = {key: [table.get(key) for table in tables] for key in keys}
    return {key: each for key, each in values.items() if len(set(map(_comparable, each))) > 1}


def groups_of(runs: Sequence[RunRecord]) -> list[Group]:
    """Return the runs in groups, in their order."""
    different = differing_keys(runs)
    seedless = {key: values for key, values in different.items() if key != _SEED}
    together: dict[tuple[str, ...], list[RunRecord]] = {}
    for number, run in enumerate(runs):
        if _SEED not in different and not seedless:
            together[(str(number),)] = [run]  # the same recipe throughout: each by itself
        else:
            said = tuple(_comparable(values[number]) for values in seedless.values())
            together.setdefault(said, []).append(run)
    firsts = [members[0] for members in together.values()]
    named = zip(_labels(firsts, seedless, runs), together.values(), strict=True)
    return [Group(label, tuple(members)) for label, members in named]


def run_labels(runs: Sequence[RunRecord]) -> list[str]:
    """Return what each run is, by the keys that differ, or else its name."""
    return _labels(runs, differing_keys(runs), runs)


def _labels(
    some: Sequence[RunRecord], different: dict[str, list[Any]], runs: Sequence[RunRecord]
) -> list[str]:
    if not 0 < len(different) <= _MOST_KEYS:
        return labels(some)
    places = [next(n for n, run in enumerate(runs) if run is one) for one in some]
    parts = [(key.rpartition(".")[2], values) for key, values in different.items()]
    found = [", ".join(f"{end} {shown(values[n])}" for end, values in parts) for n in places]
    return found if len(set(found)) == len(found) else labels(some)


def shown(value: Any) -> str:
    """Return a recipe's value as people read it.

    Example:
        >>> shown(None), shown(0.01), shown(True), shown([64, 64])
        ('absent', '0.01', 'true', '64 64')
    """
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _comparable(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)
