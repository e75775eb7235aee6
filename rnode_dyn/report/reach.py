"""How long each run trains until it is as good as the first one became."""

from collections.abc import Sequence
from typing import Any

from rnode_dyn.report.table import markdown_table, number
from rnode_dyn.runs.record import RunRecord, labels

_HEADS = ("run", "best held-out bits/dim", "training s until {target:.3f}", "times as fast")


def seconds_to(run: RunRecord, bits: float) -> float | None:
    """Return the first second of training at which a run's held-out bits/dim are so low.

    Returns:
        Seconds; ``None`` where it never is, or where the run has no seconds written down.
    """
    return next((score.seconds for score in run.held_out if score.bits <= bits), None)


def reach_figures(runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    """Return when each run reaches the first one's best held-out figure.

    Args:
        runs: Two or more.

    Returns:
        ``bits_per_dim``, that figure, and for each run ``seconds`` and ``times_as_fast``, the
        first run's seconds over its own; ``None`` where the first run has no held-out figure.
    """
    best = runs[0].best
    if best is None:
        return None
    seconds = [seconds_to(run, best.bits) for run in runs]
    return {
        "bits_per_dim": best.bits,
        "runs": [
            {"run": str(run.folder.path), "seconds": s, "times_as_fast": _ratio(seconds[0], s)}
            for run, s in zip(runs, seconds, strict=True)
        ],
    }


def reach_table(runs: Sequence[RunRecord]) -> str | None:
    """Return the same as a table in Markdown; a run that never gets there is said to."""
    figures = reach_figures(runs)
    if figures is None:
        return None
    target = figures["bits_per_dim"]
    rows = [
        [
            name,
            number(None if run.best is None else run.best.bits, ".3f"),
            _until(run, target),
            number(reached["times_as_fast"], ".2f"),
        ]
        for run, name, reached in zip(runs, labels(runs), figures["runs"], strict=True)
    ]
    return markdown_table([head.format(target=target) for head in _HEADS], rows)


def _until(run: RunRecord, target: float) -> str:
    seconds = seconds_to(run, target)
    if seconds is not None:
        return f"{seconds:,.0f}"
    reached = run.best is not None and run.best.bits <= target
    return "not recorded" if reached else "not reached"


def _ratio(first: float | None, other: float | None) -> float | None:
    return first / other if first and other else None
