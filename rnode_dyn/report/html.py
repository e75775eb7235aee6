"""A run's ``report.html``: one file with its figures, pictures, curves and recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar
from xml.etree.ElementTree import Element

from rnode_dyn.report.curves import curves_png, has_curve
from rnode_dyn.report.page import add, add_image, add_table, as_text, new_page
from rnode_dyn.runs.columns import Against
from rnode_dyn.runs.durable import write_text
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import RunRecord, read_what_is_whole

T = TypeVar("T")

PICTURES = ("samples.png", "strip.png", "plane.png")
_AXES: tuple[Against, ...] = ("seconds", "steps")
_MOMENTS = 6
"""Pictures from while a run trained that its report shows."""
_NESTED = ("protocol", "versions")


def write_report(folder: RunFolder) -> Path:
    """Write a run's report, of what is there: pictures and curves that are not are left out.

    Args:
        folder: The run, finished or not.

    Returns:
        The file: it loads nothing from elsewhere, and needs no script.

    Raises:
        RunError: if it is no run folder.
    """
    path = folder.path / "report.html"
    write_text(path, as_text(_page(read_what_is_whole(folder))))
    return path


def _page(run: RunRecord) -> Element:
    page, body = new_page(str(run.recipe.get("title") or run.name))
    add_figures(body, run)
    add_pictures(body, run.folder.samples)
    add_curves(body, run)
    add(body, "h2", "Recipe")
    add(body, "pre", run.folder.recipe.read_text(encoding="utf-8", errors="replace"))
    return page


def add_figures(body: Element, run: RunRecord) -> None:
    """Add a run's figures and how they were measured, or how an unfinished one stands."""
    summary = run.summary
    if summary is None:
        latest = f"{run.held_out[-1].bits:.4g}" if run.held_out else "none yet"
        add(body, "p", f"This run is unfinished. Its latest held-out bits per dim: {latest}.")
        return
    add_table(body, {name: v for name, v in summary.items() if name not in _NESTED})
    for name in _NESTED:
        if summary.get(name):
            add(body, "h2", "How it was measured" if name == "protocol" else "Versions")
            add_table(body, summary[name])


def add_pictures(body: Element, samples: Path) -> None:
    """Add the pictures that lie in a run's folder of samples."""
    for name in PICTURES:
        if (samples / name).is_file():
            add(body, "h2", name.removesuffix(".png").capitalize())
            add_image(body, (samples / name).read_bytes(), name)
    over_time = sorted(samples.glob("*epoch-*.png"))
    if over_time:
        add(body, "h2", "Samples while it trained")
        for path in spread(over_time, _MOMENTS):
            add(body, "p", path.stem.replace("-", " "))
            add_image(body, path.read_bytes(), path.name)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return so many items or fewer, evenly from the first to the last.

    Example:
        >>> spread("abcdefg", 3), spread("ab", 3)
        (['a', 'd', 'g'], ['a', 'b'])
    """
    if len(items) <= count:
        return list(items)
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def add_curves(body: Element, run: RunRecord) -> None:
    """Add a run's training as curves, if it has any figures."""
    against: Against | None = next((axis for axis in _AXES if has_curve(run, axis)), None)
    if against is not None:
        add(body, "h2", "Training")
        add_image(body, curves_png([run], against), f"curves of the training against {against}")
