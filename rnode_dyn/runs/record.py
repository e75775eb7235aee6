"""Runs as their folders tell of them, finished or not, also those of older versions."""

import csv
import json
import math
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rnode_dyn.runs.columns import HELD_OUT, SECONDS, STAGE, STEP
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder


class Score(NamedTuple):
    """Held-out bits per dimension at one moment of a training.

    Attributes:
        bits: The figure.
        step: Steps counted from 0.
        seconds: Seconds of training until then; ``None`` where they were not written down.
    """

    bits: float
    step: float
    seconds: float | None


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says.

    Attributes:
        folder: The folder.
        recipe: Its recipe, as a table; not checked, since an older version may have written it.
        summary: The figures of a finished run; ``None`` for one that is unfinished.
        metrics: Rows of ``metrics.csv``, each with the figures that it has.
    """

    folder: RunFolder
    recipe: dict[str, Any]
    summary: dict[str, Any] | None
    metrics: tuple[dict[str, float], ...]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.recipe.get("name", self.folder.path.name))

    @property
    def held_out(self) -> list[Score]:
        """The held-out figures, in order."""
        return [
            Score(row[HELD_OUT], row[STEP], row.get(SECONDS))
            for row in self.metrics
            if HELD_OUT in row
        ]

    @property
    def best(self) -> Score | None:
        """The lowest held-out figure, which is that of ``best.ckpt``."""
        return min(self.held_out, key=lambda score: score.bits, default=None)

    def latest(self, column: str) -> float | None:
        """Return the last figure of a column."""
        return next((row[column] for row in reversed(self.metrics) if column in row), None)

    def curve(self, x: str, y: str) -> list[tuple[float, float]]:
        """Return the points where both columns have a figure."""
        return [(row[x], row[y]) for row in self.metrics if x in row and y in row]

    def stage_starts(self, x: str) -> list[float]:
        """Return where stages after the first begin, at the last row of the one before.

        Example:
            >>> rows = ({"step": 9.0, "stage": 0.0}, {"step": 19.0, "stage": 1.0})
            >>> RunRecord(RunFolder(Path("run")), {}, None, rows).stage_starts("step")
            [9.0]
        """
        rows = [row for row in self.metrics if STAGE in row and x in row]
        return [before[x] for before, after in pairwise(rows) if before[STAGE] != after[STAGE]]


def read_record(folder: RunFolder) -> RunRecord:
    """Read a run folder.

    Args:
        folder: Finished or not; what is not there yet is left empty.

    Raises:
        RunError: if it is no run folder, or if a file in it is damaged.

    Example:
        >>> read_record(RunFolder(Path("nowhere")))
        Traceback (most recent call last):
        rnode_dyn.runs.errors.RunError: nowhere is no run folder: it has no recipe.toml. ...
    """
    folder.check_is_run()
    try:
        recipe = tomllib.loads(folder.recipe.read_text(encoding="utf-8"))
        finished = folder.summary.is_file()
        summary = json.loads(folder.summary.read_text(encoding="utf-8")) if finished else None
    except ValueError as error:
        raise RunError(f"{folder.path} has a file that is damaged: {error}.") from error
    return RunRecord(folder, recipe, summary, _read_metrics(folder.metrics))


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """Return a name for each run: the recipe's, with the folder where several have the same.

    Example:
        >>> names = {"runs/a": "mnist", "runs/b": "mnist", "c": "moons"}
        >>> labels([RunRecord(RunFolder(Path(p)), {"name": n}, None, ()) for p, n in names.items()])
        ['mnist (a)', 'mnist (b)', 'moons']
    """
    names = Counter(run.name for run in runs)
    folders = Counter((run.name, run.folder.path.name) for run in runs)
    found = []
    for run in runs:
        path = run.folder.path
        alone = folders[run.name, path.name] == 1
        found.append(
            run.name if names[run.name] == 1 else f"{run.name} ({path.name if alone else path})"
        )
    return found


def _read_metrics(path: Path) -> tuple[dict[str, float], ...]:
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        rows = [_figures(row) for row in csv.DictReader(file)]
    return tuple(row for row in rows if STEP in row)


def _figures(row: dict[str, Any]) -> dict[str, float]:
    """Return the finite figures; a line that is still being written may have a cut one."""
    figures = {}
    for name, text in row.items():
        try:
            value = float(text)
        except (TypeError, ValueError):
            continue
        if math.isfinite(value):
            figures[name] = value
    return figures
