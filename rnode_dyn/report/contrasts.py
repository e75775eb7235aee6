"""Recipes against each other: figures as bars, and evaluations against the Jacobian norm."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnode_dyn.report.curves import COLOURS, add_legend, as_png
from rnode_dyn.report.groups import Group
from rnode_dyn.report.pareto import NAMES
from rnode_dyn.runs.columns import EVALUATIONS, JACOBIAN
from rnode_dyn.runs.record import RunRecord

_BARS = ("bits_per_dim", "nfe_forward", "jacobian_frobenius", "training_s")


def bars_png(groups: Sequence[Group]) -> bytes | None:
    """Draw each figure as a bar for each recipe (Finlay et al. 2020, figure 5).

    Returns:
        The picture; ``None`` where there are no two recipes to compare.
    """
    shown = [key for key in _BARS if sum(group.figure(key) is not None for group in groups) > 1]
    if not shown:
        return None
    labels = [group.label.replace(", ", "\n") for group in groups]
    lines = max(label.count("\n") + 1 for label in labels)
    size = (9.1, 1.0 + (0.2 + 0.17 * lines) * len(groups))
    figure = Figure(figsize=size, layout="constrained")
    row = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, key in zip(row, shown, strict=True):
        _draw_bars(axes, groups, key)
    row[0].set_yticks(range(len(groups)), labels, parse_math=False)
    row[0].invert_yaxis()
    return as_png(figure)


def _draw_bars(axes: Axes, groups: Sequence[Group], key: str) -> None:
    found = [(n, f) for n, group in enumerate(groups) if (f := group.figure(key)) is not None]
    axes.barh(
        [n for n, _ in found],
        [figure.value for _, figure in found],
        color=[COLOURS[n % len(COLOURS)] for n, _ in found],
        alpha=0.75,
        height=0.7,
    )
    for n, figure in found:
        if figure.stderr:
            axes.errorbar(figure.value, n, xerr=figure.stderr, color="black", capsize=3)
        # Written out, since bars begin at 0 and differences are small.
        place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(f"{figure.value:.4g}", (0, n), fontsize="small", **place)
    axes.set_xlabel(NAMES[key])
    axes.spines[["top", "right"]].set_visible(False)


def jacobian_png(runs: Sequence[RunRecord], names: Sequence[str]) -> bytes | None:
    """Draw evaluations against the Jacobian norm (Finlay et al. 2020, figure 3).

    While the flows train, where their steps are adaptive; else of the trained flows, as they were
    evaluated.

    Returns:
        The picture; ``None`` where the evaluations are the same everywhere.
    """
    points = [run.curve(JACOBIAN, EVALUATIONS) for run in runs]
    if not _says_something(points):
        points = [_measured(run) for run in runs]
    if not _says_something(points):
        return None
    figure = Figure(figsize=(9.1, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, each) in enumerate(zip(names, points, strict=True)):
        if each:
            colour = COLOURS[number % len(COLOURS)]
            size = 40 if len(each) == 1 else 8
            axes.scatter(*zip(*each, strict=True), s=size, alpha=0.7, color=colour, label=name)
    axes.set(xlabel="Jacobian norm", ylabel="evaluations")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    add_legend(axes, axes.get_legend_handles_labels()[0])
    return as_png(figure)


def _says_something(points: Sequence[Sequence[tuple[float, float]]]) -> bool:
    """Whether the evaluations are not the same everywhere."""
    return len({evaluations for each in points for _, evaluations in each}) > 1


def _measured(run: RunRecord) -> list[tuple[float, float]]:
    summary = run.summary or {}
    point = summary.get("jacobian_frobenius"), summary.get("nfe_forward")
    return [point] if all(isinstance(x, int | float) for x in point) else []  # type: ignore[list-item]
