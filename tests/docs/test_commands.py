"""Every command line of the documentation names what is there: options, recipes, keys, scripts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer

from rnode_dyn.recipe.errors import RecipeError
from tests.docs.commands import COMMANDED, check, commands, is_command
from tests.docs.pages import ROOT, all_blocks_of, blocks_of, name_of, write_recipes

LANGUAGES = {"python", "sh", "toml", "text"}
USAGE: Any = typer.BadParameter.__base__
REFUSALS = (AssertionError, RecipeError, SystemExit, USAGE)


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def by_line() -> Iterable[tuple[str, str]]:
    """Each line once, with the first page that has it."""
    first: dict[str, str] = {}
    for command in commands():
        first.setdefault(command.line, command.page)
    return ((page, line) for line, page in first.items())


@pytest.mark.parametrize(("page", "line"), by_line())
def test_command_line_is_understood(page: str, line: str) -> None:
    write_recipes(ROOT / page)
    check(line)


@pytest.mark.parametrize(
    "line",
    [
        "rnode-dyn runs moons",
        "rnode-dyn run moon",
        "rnode-dyn run moons --sets train.epochs=5",
        "rnode-dyn run moons --set train.epoch=5",
        "rnode-dyn run --resume RUN --set train.max_step=5",
        "rnode-dyn sweep moons --grid train.max_step=1,2",
        "rnode-dyn sweep moons --search train.rate=1e-4..1e-2 --trials 2",
        "rnode-dyn show moons --flops many",
        "python benchmarks/stap.py",
        "python benchmarks/layers.py five",
        "python benchmarks/energies.py --seeds 2",
        "python benchmarks/algorithms.py 3",
        "make tests",
        "pytest tests/survival",
        'pip install "rnode-dyn[mlfow]"',
        "perl -e 1",
    ],
)
def test_what_is_wrong_is_seen(line: str) -> None:
    with pytest.raises(REFUSALS):
        check(line)


@pytest.mark.parametrize("page", COMMANDED, ids=name_of)
def test_commands_stand_where_they_are_tried(page: Path) -> None:
    """``text`` is what a program prints; its answers to a line after ``$`` are compared."""
    blocks = all_blocks_of(page)
    assert {block.language for block in blocks} <= LANGUAGES
    printed = [line for block in blocks_of(page, "text") for line in block.text.splitlines()]
    assert not [line for line in printed if is_command(line)]
