"""Runs as their folders tell of them, finished or not, also those of older versions."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.read import read_toml
from rnode_dyn.runs.columns import HELD_OUT, SECONDS, STAGE, STEP
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.metrics_file import read_rows

_TABLES = ("protocol", "versions")
_FIGURES = (
    "bits_per_dim",
    "bits_per_dim_stderr",
    "bits_per_dim_bin_centre",
    "nfe_forward",
    "jacobian_frobenius",
    "kinetic_energy",
    "parameters",
    "train_steps",
    "training_s",
    "wall_clock_s",
)
_HUGE = 1e15


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
        damaged: What could not be read, in a sentence each.
    """

    folder: RunFolder
    recipe: dict[str, Any]
    summary: dict[str, Any] | None
    metrics: tuple[dict[str, float], ...]
    damaged: tuple[str, ...] = ()

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
    record = read_what_is_whole(folder)
    if record.damaged:
        raise RunError(f"{folder.path} has a file that is damaged: {record.damaged[0]}.")
    return record


def read_what_is_whole(folder: RunFolder) -> RunRecord:
    """Read a run folder, and leave out what is damaged there.

    Raises:
        RunError: if it is no run folder.
    """
    folder.check_is_run()
    damaged: list[str] = []
    recipe = _table(folder.recipe, _read_recipe, damaged)
    summary = _table(folder.summary, _read_summary, damaged)
    metrics = _read_metrics(folder.metrics, damaged)
    return RunRecord(folder, recipe or {}, summary, metrics, tuple(damaged))


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


def _table(
    path: Path, read: Callable[[Path], dict[str, Any]], damaged: list[str]
) -> dict[str, Any] | None:
    """Read a file, if it is there; say of one that cannot be read that it is damaged."""
    if not path.exists():
        return None
    try:
        return read(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = "" if isinstance(error, RecipeError) else f"{path}: "
        damaged.append(f"{reason}{error}; it is left out")
        return None


def _read_recipe(path: Path) -> dict[str, Any]:
    table = read_toml(path)
    if not _is_table(table.get("data")):
        raise ValueError("its data are no table")
    return table


def _read_summary(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError("it is no file")
    summary = json.loads(path.read_text(encoding="utf-8"))
    json.dumps(summary, ensure_ascii=False).encode()  # text that is no text cannot be shown
    if not isinstance(summary, dict) or not all(map(_is_table, map(summary.get, _TABLES))):
        raise ValueError("it does not hold a run's figures")
    if not all(_is_figure(summary.get(name)) for name in _FIGURES):
        raise ValueError("what should be a number is none")
    return summary


def _is_table(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not abs(value) >= _HUGE)


def _read_metrics(path: Path, damaged: list[str]) -> tuple[dict[str, float], ...]:
    if path.exists() and not path.is_file():
        damaged.append(f"{path}: it is no file; it is left out")
    try:
        rows = [_figures(row) for row in read_rows(path)]
    except OSError as error:
        damaged.append(f"{path}: {error.strerror}; it is left out")
        return ()
    whole = tuple(row for row in rows if STEP in row)
    if path.is_file() and path.stat().st_size and not whole:
        damaged.append(f"{path}: no line of it is whole; it is left out")
    return whole


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
