"""Runs the tutorials, and puts what they print and draw into their pages.

``python docs/pictures/tutorials.py plane table`` runs the Python of these pages from top to bottom
in an empty folder. What a block prints becomes the ``text`` block that follows it; the figures that
it leaves open become the pictures that follow it, in their order.
"""

import argparse
import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib

TUTORIALS = Path(__file__).parents[1] / "tutorials"
_CELL = re.compile(r"^```python\n(?P<code>.*?)^```\n(?P<after>.*?)(?=^```python$|\Z)", re.M | re.S)
_PRINTED = re.compile(r"^```text\n.*?^```$", re.M | re.S)
_PICTURE = re.compile(r"^!\[[^\]]*\]\((.*?)\)$", re.M)
_WIDEST = 1200


def main(names: list[str]) -> None:
    """Run the pages of these names."""
    matplotlib.use("agg")
    for name in names:
        page = TUTORIALS / f"{name}.md"
        with _empty_folder():
            text = run_page(page.read_text(encoding="utf-8"))
        page.write_text(text, encoding="utf-8")


def run_page(text: str) -> str:
    """Run a page's cells in one namespace, and return the page with what they printed."""
    namespace: dict[str, object] = {"__name__": "__main__"}

    def cell(match: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(match["code"], "<tutorial>", "exec"), namespace)
        after = match["after"]
        _draw(_PICTURE.findall(after))
        if printed.getvalue().strip():
            block = f"```text\n{printed.getvalue().rstrip()}\n```"
            after = _PRINTED.sub(lambda _: block, after, count=1)
        return f"```python\n{match['code']}```\n{after}"

    return _CELL.sub(cell, text)


def _draw(pictures: list[str]) -> None:
    from matplotlib import pyplot
    from PIL import Image

    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    for figure, picture in zip(figures, pictures, strict=True):
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=110)
        image = Image.open(drawn).convert("RGB")
        image.thumbnail((_WIDEST, _WIDEST))
        image.quantize(128).save(TUTORIALS / picture, optimize=True)
    pyplot.close("all")


@contextlib.contextmanager
def _empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


if __name__ == "__main__":
    pages = [page.stem for page in sorted(TUTORIALS.glob("*.md"))]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=pages, help="all, unless named")
    main(**vars(parser.parse_args()))
