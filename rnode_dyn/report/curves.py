"""Trainings as curves: held-out bits per dimension, evaluations and the Jacobian norm."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from itertools import cycle, islice, product
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnode_dyn.runs.columns import EVALUATIONS, HELD_OUT, JACOBIAN, SECONDS, STEP, Against
from rnode_dyn.runs.record import RunRecord, labels

COLUMNS: dict[Against, str] = {"seconds": SECONDS, "steps": STEP}

X_LABELS: dict[Against, str] = {"seconds": "seconds of training", "steps": "training steps"}
HELD_OUT_LABEL = "held-out bits/dim"
_PANELS = (
    (HELD_OUT, HELD_OUT_LABEL),
    (EVALUATIONS, "evaluations\nin a training step"),
    (JACOBIAN, "Jacobian norm"),
)
_SIZE, _DPI = (9.1, 8.2), 110
# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow: it is too light.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = ("-", "--", "-.")
_NEXT_STAGE: dict[str, Any] = {"linestyle": ":", "lw": 1.2}
# Ends of training that are further apart than this want a logarithmic axis.
_FAR = 20.0
# Curves with fewer points than this show each of them.
_FEW = 40


def has_curve(run: RunRecord, against: Against) -> bool:
    """Whether a run has a figure of any panel to draw against seconds or steps."""
    return any(run.curve(COLUMNS[against], column) for column, _ in _PANELS)


def curves_png(
    runs: Sequence[RunRecord], against: Against, names: Sequence[str] | None = None
) -> bytes:
    """Return a picture of some runs' trainings, about 1000 pixels wide.

    Args:
        runs: Runs; one that :func:`has_curve` does not hold for leaves no trace.
        against: What stands on the horizontal axis.
        names: What each run is called; left out, its recipe's name.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    panels = figure.subplots(len(_PANELS), 1, sharex=True, height_ratios=(2, 1, 1))
    lines, *_ = [
        draw_curves(axes, runs, COLUMNS[against], column, names)
        for axes, (column, _) in zip(panels, _PANELS, strict=True)
    ]
    for axes, (_, title) in zip(panels, _PANELS, strict=True):
        axes.set_ylabel(title)
    for axes in panels[1:]:
        axes.set_ylim(bottom=0)
    panels[-1].set_xlabel(X_LABELS[against])
    panels[-1].set_xscale(x_scale(runs, COLUMNS[against]))
    shown = [line for run, line in zip(runs, lines, strict=True) if has_curve(run, against)]
    if any(run.stage_starts(COLUMNS[against]) for run in runs):
        shown.append(Line2D([], [], label="next stage", **_NEXT_STAGE, color="0.4"))
    add_legend(panels[0], shown)
    return as_png(figure)


def x_scale(runs: Sequence[RunRecord], x: str) -> str:
    """Return the horizontal axis's scale: logarithmic for trainings of very different lengths.

    Example:
        >>> from pathlib import Path
        >>> from rnode_dyn.runs.folder import RunFolder
        >>> folder = RunFolder(Path("run"))
        >>> short, long = (RunRecord(folder, {}, None, ({"step": end},)) for end in (10.0, 500.0))
        >>> x_scale([short, long], "step"), x_scale([short], "step")
        ('log', 'linear')
    """
    ends = [end for run in runs if (end := run.latest(x))]
    return "log" if ends and max(ends) > _FAR * min(ends) else "linear"


def draw_curves(
    axes: Axes, runs: Sequence[RunRecord], x: str, y: str, names: Sequence[str] | None = None
) -> list[Line2D]:
    """Draw one column of all runs; return a line for each, without points where it has none."""
    lines = []
    called = labels(runs) if names is None else names
    for run, name, (line, colour) in zip(runs, called, styles(len(runs)), strict=True):
        points = run.curve(x, y)
        marker = "o" if len(points) < _FEW else ""
        horizontal, vertical = ([point[axis] for point in points] for axis in (0, 1))
        lines += axes.plot(
            horizontal, vertical, label=name, color=colour, linestyle=line, marker=marker, ms=3.5
        )
        for start in run.stage_starts(x):
            axes.axvline(start, color=colour, **_NEXT_STAGE)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return lines


def styles(count: int) -> list[tuple[str, str]]:
    """Return kinds of lines and colours, again from the first where there are too many runs."""
    return list(islice(cycle(product(_LINES, COLOURS)), count))


def add_legend(axes: Axes, lines: Sequence[Artist]) -> None:
    """Name the lines, each by its label as it is."""
    # Named one by one: a name that begins with _ would be left out, and $ begin a formula.
    legend = axes.legend(lines, [str(line.get_label()) for line in lines], frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)


def as_png(figure: Figure) -> bytes:
    """Return a figure as a picture's bytes."""
    with BytesIO() as file, warnings.catch_warnings():
        # A name may have letters that the font lacks: they are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png", dpi=_DPI)
        return file.getvalue()
