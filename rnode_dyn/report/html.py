"""A run's ``report.html``: one file with its figures, pictures, curves and recipe."""

from base64 import b64encode
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from rnode_dyn.report.curves import curves_png, has_curve
from rnode_dyn.runs.columns import Against
from rnode_dyn.runs.durable import write_text
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import RunRecord, read_what_is_whole

_PICTURES = ("samples.png", "strip.png", "plane.png")
_AXES: tuple[Against, ...] = ("seconds", "steps")
_NESTED = ("protocol", "versions")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem;
  color: #1b1b1b; background: #fff }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .15rem 1.5rem .15rem 0;
  border-bottom: 1px solid #ddd }
th { font-weight: normal; color: #555 }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto }
"""


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
    page = _page(read_what_is_whole(folder))
    write_text(path, "<!DOCTYPE html>\n" + page + "\n")
    return path


def _page(run: RunRecord) -> str:
    # Built as a tree, so that what a recipe says is text, and never markup.
    html = Element("html", lang="en")
    head, body = SubElement(html, "head"), SubElement(html, "body")
    title = str(run.recipe.get("title") or run.name)
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", title)
    _add(head, "style", _STYLE)
    _add(body, "h1", title)
    _add_figures(body, run)
    _add_pictures(body, run.folder.samples)
    _add_curves(body, run)
    _add(body, "h2", "Recipe")
    _add(body, "pre", run.folder.recipe.read_text(encoding="utf-8", errors="replace"))
    return tostring(html, encoding="unicode", method="html")


def _add_figures(body: Element, run: RunRecord) -> None:
    summary = run.summary
    if summary is None:
        latest = f"{run.held_out[-1].bits:.4g}" if run.held_out else "none yet"
        _add(body, "p", f"This run is unfinished. Its latest held-out bits per dim: {latest}.")
        return
    _add_table(body, {name: v for name, v in summary.items() if name not in _NESTED})
    for name in _NESTED:
        if summary.get(name):
            _add(body, "h2", "How it was measured" if name == "protocol" else "Versions")
            _add_table(body, summary[name])


def _add_table(body: Element, figures: dict[str, Any]) -> None:
    table = SubElement(body, "table")
    for name, value in figures.items():
        if value is not None:
            row = SubElement(table, "tr")
            _add(row, "th", name.replace("_", " "))
            _add(row, "td", _words(value))


def _add_pictures(body: Element, samples: Path) -> None:
    for name in _PICTURES:
        if (samples / name).is_file():
            _add(body, "h2", name.removesuffix(".png").capitalize())
            _add_image(body, (samples / name).read_bytes(), name)


def _add_curves(body: Element, run: RunRecord) -> None:
    against: Against | None = next((axis for axis in _AXES if has_curve(run, axis)), None)
    if against is not None:
        _add(body, "h2", "Training")
        _add_image(body, curves_png([run], against), f"curves of the training against {against}")


def _add_image(body: Element, png: bytes, says: str) -> None:
    SubElement(body, "img", alt=says, src=f"data:image/png;base64,{b64encode(png).decode()}")


def _add(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _words(value: Any) -> str:
    """Return a value as people read it.

    Example:
        >>> _words(2.123456), _words(67340), _words(["Dopri5", "RK4"])
        ('2.123', '67,340', 'Dopri5, RK4')
    """
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
