"""The code that the documentation shows runs, and its command lines are understood."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer

from rnode_dyn.cli import app
from tests.docs.pages import EXAMPLES, PAGES, blocks_of, name_of


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


@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p, "python")], ids=name_of)
def test_python_of_page_runs(page: Path) -> None:
    """A page's blocks run in order, in one namespace, beside the recipes that the page shows."""
    for block in blocks_of(page, "toml"):
        if name := re.match(r'(?:extends = .*\n)?name = "(.+)"', block.text):
            Path(f"{name[1]}.toml").write_text(block.text, encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(page, "python"):
        if block.included is not None:
            assert block.included in EXAMPLES  # which the test above runs
            continue
        code = "\n" * (block.line - 1) + block.text
        exec(compile(code, str(page), "exec"), namespace)


def command_lines() -> list[tuple[str, str]]:
    """Every `rnode-dyn …` line of the pages, with the page's name."""
    return [
        (name_of(page), line.removeprefix(".venv/bin/"))
        for page in PAGES
        for block in blocks_of(page, "sh")
        for line in block.text.splitlines()
        if line.removeprefix(".venv/bin/").startswith("rnode-dyn ")
    ]


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_command_line_is_understood(page: str, line: str) -> None:  # names the test
    group = typer.main.get_command(app)
    _, name, *arguments = shlex.split(line, comments=True)
    command = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]
    assert command is not None, f"there is no command {name}"
    command.make_context(name, arguments)  # raises on what it does not know


def test_every_example_is_shown() -> None:
    shown = {block.included for page in PAGES for block in blocks_of(page, "python")}
    assert set(EXAMPLES) <= shown
