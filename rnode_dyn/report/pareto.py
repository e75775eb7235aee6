"""Two figures of several runs against each other, and the front that none is better than."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from rnode_dyn.report.curves import COLOURS
from rnode_dyn.runs.record import RunRecord

NAMES = {
    "bits_per_dim": "bits/dim",
    "nfe_forward": "evaluations",
    "jacobian_frobenius": "Jacobian norm",
    "kinetic_energy": "kinetic energy",
    "wall_clock_s": "wall clock (s)",
    "training_s": "training (s)",
}


def draw_pareto(
    axes: Axes, runs: Sequence[RunRecord], names: Sequence[str], x: str, y: str
) -> None:
    """Draw each run as a point with its standard error, and the front.

    Args:
        axes: Where to draw.
        runs: Finished runs.
        names: What each is called.
        x: A figure of ``summary.json``, the lower the better.
        y: Another one.

    Raises:
        ValueError: if a run has not these figures, by its name.
    """
    points = [
        (_figure(run, name, x), _figure(run, name, y))
        for run, name in zip(runs, names, strict=True)
    ]
    for number, (run, name, point) in enumerate(zip(runs, names, points, strict=True)):
        error = (run.summary or {}).get(f"{y}_stderr") or 0.0
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar(*point, yerr=error, fmt="o", color=colour, capsize=3)
        axes.annotate(
            name, point, (6, 4), textcoords="offset points", fontsize="small", parse_math=False
        )
    best = front(points)
    axes.step(*zip(*best, strict=True), where="post", color="0.6", lw=1, zorder=0)
    axes.set(xlabel=NAMES.get(x, x), ylabel=NAMES.get(y, y))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other is better than in one figure and as good in the other.

    Example:
        >>> front([(1, 5), (2, 3), (3, 4), (4, 1)])
        [(1, 5), (2, 3), (4, 1)]
    """
    best: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _figure(run: RunRecord, name: str, key: str) -> float:
    if run.summary is None:
        raise ValueError(f"{name} is unfinished and has no figures yet: leave it out.")
    figures = {k: float(v) for k, v in run.summary.items() if isinstance(v, int | float)}
    if key not in figures:
        raise ValueError(f"{name} has no {key}; its figures are {', '.join(figures)}.")
    return figures[key]
