"""A page that compares runs: what differs, figures, curves, the paper's figures, samples."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from rnode_dyn.report.comparable import differences
from rnode_dyn.report.contrasts import bars_png, jacobian_png
from rnode_dyn.report.curves import curves_png, has_curve
from rnode_dyn.report.groups import Group, differing_keys, groups_of, run_labels, shown
from rnode_dyn.report.html import PICTURES
from rnode_dyn.report.page import add, add_image, add_rows, as_text, new_page
from rnode_dyn.report.table import markdown_table
from rnode_dyn.report.task import check_same_task
from rnode_dyn.runs.columns import Against
from rnode_dyn.runs.durable import write_text
from rnode_dyn.runs.record import RunRecord

_COLUMNS = {
    "bits_per_dim": ("bits/dim", ".3f"),
    "bits_per_dim_bin_centre": ("bin centre", ".3f"),
    "nfe_forward": ("evaluations", ".4g"),
    "jacobian_frobenius": ("Jacobian norm", ".4g"),
    "kinetic_energy": ("kinetic energy", ".4g"),
    "training_s": ("training s", ",.0f"),
    "wall_clock_s": ("wall clock s", ",.0f"),
}
_AXES: tuple[Against, ...] = ("seconds", "steps")


def write_comparison(runs: Sequence[RunRecord], path: Path, title: str = "") -> Path:
    """Write a page that compares runs; a panel that says nothing is left out.

    Args:
        runs: Two or more, of one task; runs that differ in their seeds alone are taken together.
        path: The file: it loads nothing from elsewhere, and needs no script.
        title: What stands above; left out, the names of the runs.

    Raises:
        RunError: if the runs are of different tasks.
    """
    check_same_task(runs)
    names = dict.fromkeys(str(run.recipe.get("title") or run.name) for run in runs)
    page, body = new_page(title or ", ".join(names))
    _add_differences(body, runs)
    _add_figures(body, groups_of(runs))
    _add_curves(body, runs)
    _add_samples(body, runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, as_text(page))
    return path


def groups_table(groups: Sequence[Group]) -> str:
    """Return the figures of groups as a table in Markdown."""
    heads, *rows = _figures(groups)
    return markdown_table(heads, rows)


def _figures(groups: Sequence[Group]) -> list[list[str]]:
    there = [key for key in _COLUMNS if any(group.figure(key) for group in groups)]
    heads = ["recipe", "runs", *(_COLUMNS[key][0] for key in there)]
    return [
        heads,
        *([g.label, str(len(g.runs)), *(_cell(g, key) for key in there)] for g in groups),
    ]


def _cell(group: Group, key: str) -> str:
    figure, form = group.figure(key), _COLUMNS[key][1]
    if figure is None:
        return "–"
    error = "" if figure.stderr is None else f" ± {figure.stderr:.2g}"
    return f"{figure.value:{form}}{error}"


def _add_differences(body: Element, runs: Sequence[RunRecord]) -> None:
    different = differing_keys(runs)
    add(body, "h2", "What differs")
    if different:
        heads = ["run", *different]
        rows = [
            [str(run.folder.path), *(shown(values[number]) for values in different.values())]
            for number, run in enumerate(runs)
        ]
        _add_wide(body, [heads, *rows])
    else:
        add(body, "p", "Nothing: the runs have the same recipe.")
    for line in differences(runs):
        add(body, "p", f"Mind that {line}.")


def _add_figures(body: Element, groups: Sequence[Group]) -> None:
    if not any(group.figure(key) for group in groups for key in _COLUMNS):
        return
    add(body, "h2", "Figures")
    _add_wide(body, _figures(groups))
    add(
        body,
        "p",
        "± is a standard error: over the seeds where a recipe has several finished runs, else over "
        "the test samples.",
    )
    picture = bars_png(groups)
    if picture is not None:
        add_image(body, picture, "figures of each recipe as bars, with their standard errors")


def _add_curves(body: Element, runs: Sequence[RunRecord]) -> None:
    names = run_labels(runs)
    against: Against | None = next(
        (axis for axis in _AXES if any(has_curve(run, axis) for run in runs)), None
    )
    if against is not None:
        add(body, "h2", "Training")
        says = f"bits per dimension, evaluations and Jacobian norm against {against}"
        add_image(body, curves_png(runs, against, names), says)
    picture = jacobian_png(runs, names)
    if picture is not None:
        add(body, "h2", "Evaluations against the Jacobian norm")
        add_image(body, picture, "evaluations of each run against its Jacobian norm")


def _add_samples(body: Element, runs: Sequence[RunRecord]) -> None:
    named = zip(runs, run_labels(runs), strict=True)
    there = [(name, found) for run, name in named if (found := _picture(run)) is not None]
    if not there:
        return
    add(body, "h2", "Samples")
    row = SubElement(body, "div", {"class": "beside"})
    for name, path in there:
        figure = SubElement(row, "figure")
        add_image(figure, path.read_bytes(), f"samples of {name}")
        add(figure, "figcaption", name)


def _picture(run: RunRecord) -> Path | None:
    paths = (run.folder.samples / name for name in PICTURES)
    return next((path for path in paths if path.is_file()), None)


def _add_wide(body: Element, rows: Sequence[Sequence[str]]) -> None:
    table = SubElement(SubElement(body, "div", {"class": "wide"}), "table")
    head = SubElement(table, "tr")
    for name in rows[0]:
        add(head, "th", name)
    add_rows(table, rows[1:])
