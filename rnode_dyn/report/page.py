"""A page of HTML built as a tree, so that what a recipe says is text, and never markup."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem;
  color: #1b1b1b; background: #fff }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; vertical-align: top; padding: .15rem 1.5rem .15rem 0;
  border-bottom: 1px solid #ddd }
th { font-weight: normal; color: #555 }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto }
.wide { overflow-x: auto }
.beside { display: flex; flex-wrap: wrap; gap: 1rem }
.beside figure { flex: 1 1 400px; margin: 0 }
"""


def new_page(title: str) -> tuple[Element, Element]:
    """Return a page of that title, and its body."""
    html = Element("html", lang="en")
    head, body = SubElement(html, "head"), SubElement(html, "body")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    add(head, "title", title)
    add(head, "style", _STYLE)
    add(body, "h1", title)
    return html, body


def as_text(page: Element) -> str:
    """Return a page as a file's content."""
    return f"<!DOCTYPE html>\n{tostring(page, encoding='unicode', method='html')}\n"


def add(parent: Element, tag: str, text: str) -> None:
    """Add an element that holds text."""
    SubElement(parent, tag).text = text


def add_table(body: Element, figures: Mapping[str, Any]) -> None:
    """Add figures by name; those that are not there are left out."""
    there = {name: value for name, value in figures.items() if value is not None}
    rows = [[name.replace("_", " "), words(value)] for name, value in there.items()]
    add_rows(SubElement(body, "table"), rows)


def add_rows(table: Element, rows: Iterable[Sequence[str]]) -> None:
    """Add rows, the first cell of each its head."""
    for head, *cells in rows:
        row = SubElement(table, "tr")
        add(row, "th", head)
        for cell in cells:
            add(row, "td", cell)


def add_image(body: Element, png: bytes, says: str) -> None:
    """Add a picture that lies in the page itself."""
    SubElement(body, "img", alt=says, src=f"data:image/png;base64,{b64encode(png).decode()}")


def words(value: Any) -> str:
    """Return a value as people read it.

    Example:
        >>> words(2.123456), words(67340), words(["Dopri5", "RK4"])
        ('2.123', '67,340', 'Dopri5, RK4')
    """
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
