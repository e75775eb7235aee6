"""The built site: it loads nothing from elsewhere, and its reference has every public name."""

import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import rnode_dyn
from tests.docs.pages import PAGES, ROOT

pytest.importorskip("material", reason="the site needs the docs extra: pip install -e '.[docs]'")

# What a browser loads by itself when it shows a page.
_LOADED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "use": ("href", "xlink:href"),
}
_ELSEWHERE = re.compile(r"^\s*(?:[a-z]+:)?//", re.IGNORECASE)
_STYLE_REFERENCE = re.compile(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", re.IGNORECASE)


class References(HTMLParser):
    """Gathers what a page makes a browser load, and the page's anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self._in_style = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.loaded += [values[name] for name in _LOADED.get(tag, ()) if name in values]
        self.loaded += _STYLE_REFERENCE.findall(values.get("style", ""))
        if "id" in values:
            self.anchors.add(values["id"])

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loaded += _STYLE_REFERENCE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"


def test_every_page_is_built(site: Path) -> None:
    sources = [p.relative_to(ROOT / "docs") for p in PAGES if p.is_relative_to(ROOT / "docs")]
    assert all((site / source.with_suffix(".html")).is_file() for source in sources)


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    loaded = {(page.name, what) for page in pages for what in References(page).loaded}
    assert loaded  # the parser sees scripts and styles at all
    assert not {pair for pair in loaded if _ELSEWHERE.match(pair[1])}


def test_styles_load_nothing_from_other_hosts(site: Path) -> None:
    for style in site.rglob("*.css"):
        references = _STYLE_REFERENCE.findall(style.read_text(encoding="utf-8"))
        assert not [what for what in references if _ELSEWHERE.match(what)], style.name


def test_scripts_load_nothing_from_other_hosts(site: Path) -> None:
    """Material's scripts name three hosts, for things that this site has none of."""
    triggers = re.compile(r'class="[^"]*\bmermaid\b|data-md-component="source"')
    for page in site.rglob("*.html"):
        assert not triggers.search(page.read_text(encoding="utf-8")), page.name


def inventory(site: Path) -> set[str]:
    """The names in the built ``objects.inv``: four lines of header, then deflated lines."""
    *_, body = (site / "objects.inv").read_bytes().split(b"\n", 4)
    return {line.split(" ", 1)[0] for line in zlib.decompress(body).decode().splitlines()}


@pytest.mark.parametrize("name", rnode_dyn.__all__)
def test_public_name_is_in_the_reference(site: Path, name: str) -> None:
    assert f"rnode_dyn.{name}" in inventory(site)


def test_reference_has_an_anchor_for_every_public_name(site: Path) -> None:
    anchors = set().union(*(References(page).anchors for page in site.glob("api/*.html")))
    assert not {f"rnode_dyn.{name}" for name in rnode_dyn.__all__} - anchors
