"""The code that the documentation shows runs."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import pyplot

from tests.docs.commands import lines_in
from tests.docs.console import perform
from tests.docs.pages import (
    EXAMPLES,
    PAGES,
    Block,
    blocks_of,
    name_of,
    shortened,
    write_recipes,
)

IN_ORDER = [p for p in PAGES if p.parent.name == "tutorials" or p.stem == "howto"]
"""Pages whose Python and commands go on from each other."""


def slow_if_long(page: Path) -> Any:
    """A page as a parameter; of the how-tos, which train ten times, one that is slow."""
    return pytest.param(page, marks=pytest.mark.slow if page.stem == "howto" else ())


def is_apart(page: Path) -> bool:
    """Whether a page has Python that needs no commands before it."""
    return page not in IN_ORDER and bool(blocks_of(page, "python"))


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, on one thread: the tensors are small."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_example_runs(example: Path) -> None:
    runpy.run_path(str(example), run_name="__main__")


def run_python(page: Path, block: Block, namespace: dict[str, object]) -> None:
    """Run a block as the page's own, so that an error names its line."""
    code = "\n" * (block.line - 1) + shortened(block.text)
    exec(compile(code, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", map(slow_if_long, IN_ORDER), ids=name_of)
def test_page_runs_from_top_to_bottom(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and commands in the page's order, trained for a few steps, in one namespace."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    pyplot.switch_backend("agg")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page, "python", "sh"):
        if block.language == "python":
            run_python(page, block, namespace)
        else:
            for line in lines_in(block.text):
                perform(line)
    pyplot.close("all")


@pytest.mark.parametrize("page", IN_ORDER, ids=name_of)
def test_figures_and_pictures_belong_to_the_same_page(page: Path) -> None:
    """Every picture of a tutorial is drawn by the block before it."""
    text = page.read_text(encoding="utf-8")
    drawn = [len(re.findall(r"plt\.subplots\(", cell)) for cell in cells_of(text)]
    shown = [len(re.findall(r"^!\[", cell, re.M)) for cell in cells_of(text)]
    assert drawn == shown


def cells_of(text: str) -> list[str]:
    """A page's Python blocks, each with what follows it until the next."""
    return re.split(r"^```python$", text, flags=re.M)[1:]


@pytest.mark.parametrize("page", [p for p in PAGES if is_apart(p)], ids=name_of)
def test_python_of_page_runs(page: Path) -> None:
    """A page's blocks run in order, in one namespace, beside the recipes that the page shows."""
    write_recipes(page)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page, "python"):
        if block.included is not None:
            assert block.included in EXAMPLES  # which the test above runs
            continue
        run_python(page, block, namespace)


def test_every_example_is_shown() -> None:
    shown = {block.included for page in PAGES for block in blocks_of(page, "python")}
    assert set(EXAMPLES) <= shown
