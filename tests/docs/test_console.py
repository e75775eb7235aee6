"""Every command line of the documentation is performed, with run folders where it says RUN."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.docs.commands import commands
from tests.docs.console import call, perform
from tests.docs.pages import PAGES, ROOT, blocks_of, name_of, write_recipes
from tests.docs.test_examples import IN_ORDER

pytestmark = pytest.mark.slow

_NAMED = re.compile(r"\b(OTHER-RUN|RUN)\b|runs/[\w-]+-…")
_ANSWERED = re.compile(r"\$ rnode-dyn (?P<line>.*)\n(?P<answer>(?:.*\n)+)")


_RUN_OF = {"docs/pictures.md": "LABELLED", "docs/conditional.md": "PLANE"}
"""What stands for RUN on pages that speak of flows of a kind."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which runs are, and an array."""
    folder = tmp_path_factory.mktemp("console")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        perform("rnode-dyn run quickstart-warm --output RUN")
        perform("rnode-dyn run quickstart --output OTHER-RUN")
        perform("rnode-dyn run digits-labelled --set model.condition.dropout=0.1 --output LABELLED")
        perform("rnode-dyn run moons --output PLANE")
        perform("rnode-dyn run moons")
        perform("rnode-dyn run digits-labelled")
        perform("rnode-dyn sample RUN -n 5")
        np.save("data.npy", np.zeros((3, 2)))
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    return


def lines() -> list[tuple[str, str]]:
    """Each line once, with the first page that has it."""
    apart = {name_of(page) for page in PAGES if page not in IN_ORDER}
    first = {command.line: command.page for command in reversed([*commands()])}
    return [(page, line) for line, page in first.items() if page in apart and has_options(line)]


def has_options(line: str) -> bool:
    """Whether a line says what to do, and is not the mention of a command."""
    return len(line.split()) > 2 or line == "rnode-dyn recipes"


@pytest.mark.parametrize(("page", "line"), lines())
def test_line_is_performed(page: str, line: str) -> None:
    runs = iter([_RUN_OF.get(page, "RUN"), "OTHER-RUN"])
    write_recipes(ROOT / page)
    perform(_NAMED.sub(lambda _: next(runs), line))


def answers() -> list[tuple[str, str]]:
    """Lines that a page shows with their answers."""
    blocks = [block.text for page in PAGES for block in blocks_of(page, "text")]
    return [(m["line"], m["answer"]) for text in blocks for m in _ANSWERED.finditer(text)]


@pytest.mark.parametrize(("line", "answer"), answers())
def test_answer_is_the_one_that_is_shown(line: str, answer: str) -> None:
    assert "".join(call(*line.split()).output.split()) == "".join(answer.split())
