"""Runs side by side as a table in Markdown, to be pasted, and as plain values."""

from collections.abc import Sequence
from typing import Any

from rnode_dyn.runs.columns import SECONDS, STEP
from rnode_dyn.runs.record import RunRecord, labels

HEADS = (
    "run",
    "bits/dim",
    "bin centre",
    "evaluations",
    "Jacobian norm",
    "kinetic energy",
    "parameters",
    "steps",
    "training s",
    "device",
)
_NONE = "–"


def runs_table(runs: Sequence[RunRecord]) -> str:
    """Return a row for each run; of an unfinished one what is known by now."""
    rows = [_cells(run, name) for run, name in zip(runs, labels(runs), strict=True)]
    return markdown_table(HEADS, rows)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a table: the first column to the left, the others to the right.

    Example:
        >>> print(markdown_table(["run", "steps"], [["a|b", "12"]]))
        | run | steps |
        |---|---:|
        | a\|b | 12 |
    """
    rule = "|---" + "|---:" * (len(heads) - 1) + "|"
    lines = [_line(heads), rule, *(_line(row) for row in rows)]
    return "\n".join(lines)


def run_figures(run: RunRecord) -> dict[str, Any]:
    """Return a run as plain values: the summary's figures, and how the training stands."""
    latest, best = (run.held_out or [None])[-1], run.best
    return {
        "run": str(run.folder.path),
        "name": run.name,
        "finished": run.summary is not None,
        "held_out_bits_per_dim": None if latest is None else latest.bits,
        "best_held_out_bits_per_dim": None if best is None else best.bits,
        "summary": run.summary,
    }


def _cells(run: RunRecord, name: str) -> list[str]:
    summary = run.summary
    if summary is None:
        return _unfinished(run, name)
    bits, error = summary.get("bits_per_dim"), summary.get("bits_per_dim_stderr")
    scored = number(bits, ".3f") if error is None else f"{number(bits, '.3f')} ± {error:.3f}"
    return [
        name,
        f"{scored}{_bound(summary)}",
        number(summary.get("bits_per_dim_bin_centre"), ".3f"),
        number(summary.get("nfe_forward"), ",.4g"),
        number(summary.get("jacobian_frobenius"), ".4g"),
        number(summary.get("kinetic_energy"), ".4g"),
        number(summary.get("parameters"), ","),
        number(summary.get("train_steps"), ","),
        _seconds(summary),
        str((summary.get("versions") or {}).get("device", _NONE)),
    ]


def _bound(summary: dict[str, Any]) -> str:
    """What is said of bits per dimension that learned noise bounds."""
    learned = summary.get("dequantization") == "variational"
    return ", a variational bound" if learned else ""


def _unfinished(run: RunRecord, name: str) -> list[str]:
    scores = run.held_out
    held_out = f"{scores[-1].bits:.3f} held out" if scores else _NONE
    unknown = [_NONE] * 5
    steps, seconds = number(run.latest(STEP), ",.0f"), number(run.latest(SECONDS), ",.0f")
    return [f"{name}, unfinished", held_out, *unknown, steps, seconds, _NONE]


def _seconds(summary: dict[str, Any]) -> str:
    """Return the seconds of training; older runs have only those with validation in them."""
    if "training_s" in summary:
        return number(summary["training_s"], ",.0f")
    return f"{number(summary.get('wall_clock_s'), ',.0f')} with validation"


def number(value: float | None, form: str) -> str:
    """Return a figure in a format, or a dash for one that is not there.

    Example:
        >>> number(1234.5, ",.0f"), number(None, ",.0f")
        ('1,234', '–')
    """
    return _NONE if value is None else format(value, form)


def _line(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.split()).replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
