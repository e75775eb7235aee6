"""What a run learns: figures of different tasks are no comparison."""

from collections.abc import Sequence

from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.record import RunRecord, labels

_TASK = ("dataset", "variant", "image_size", "channels", "columns", "levels")


def check_same_task(runs: Sequence[RunRecord]) -> None:
    """Refuse runs whose data are not the same set, size and levels.

    Raises:
        RunError: with the task of each.

    Example:
        >>> from pathlib import Path
        >>> from rnode_dyn.runs.folder import RunFolder
        >>> check_same_task([
        ...     RunRecord(RunFolder(Path(d)), {"name": d, "data": {"dataset": d}}, None, ())
        ...     for d in ("moons", "digits")
        ... ])
        Traceback (most recent call last):
        rnode_dyn.runs.errors.RunError: these runs have different tasks: moons learns moons; ...
    """
    tasks = [_task(run) for run in runs]
    if len(set(tasks)) > 1:
        each = (f"{n} learns {task}" for n, task in zip(labels(runs), tasks, strict=True))
        raise RunError(
            f"these runs have different tasks: {'; '.join(each)}. Their figures cannot be "
            "compared: report runs of one task at once."
        )


def _task(run: RunRecord) -> str:
    data = run.recipe.get("data", {})
    said = [(key, data[key]) for key in _TASK if data.get(key) is not None]
    return ", ".join(str(v) if k == "dataset" else f"{k} {v}" for k, v in said) or "unknown data"
