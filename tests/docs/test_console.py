"""Every command line of the documentation is performed, with run folders where it says RUN."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.console import call, lines_in, perform
from tests.docs.pages import PAGES, blocks_of, name_of
from tests.docs.test_examples import IN_ORDER

pytestmark = pytest.mark.slow

_NAMED = re.compile(r"\b(OTHER-RUN|RUN)\b|runs/[\w-]+-…")
_ANSWERED = re.compile(r"\$ rnode-dyn (?P<line>.*)\n(?P<answer>(?:.*\n)+)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two runs are."""
    folder = tmp_path_factory.mktemp("console")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        perform("rnode-dyn run quickstart-warm --output RUN")
        perform("rnode-dyn run quickstart --output OTHER-RUN")
        perform("rnode-dyn sample RUN -n 5")
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    return


def lines() -> list[tuple[str, str]]:
    """Each line once, with the first page that has it."""
    found: dict[str, str] = {}
    for page in PAGES:
        if page not in IN_ORDER:
            for block in blocks_of(page, "sh"):
                for line in lines_in(block):
                    found.setdefault(line, name_of(page))
    return [(page, line) for line, page in found.items()]


@pytest.mark.parametrize(("page", "line"), lines())
def test_line_is_performed(page: str, line: str) -> None:  # the page names the test
    runs = iter(["RUN", "OTHER-RUN"])
    perform(_NAMED.sub(lambda _: next(runs), line))


def answers() -> list[tuple[str, str]]:
    """Lines that a page shows with their answers."""
    blocks = [block.text for page in PAGES for block in blocks_of(page, "text")]
    return [(m["line"], m["answer"]) for text in blocks for m in _ANSWERED.finditer(text)]


@pytest.mark.parametrize(("line", "answer"), answers())
def test_answer_is_the_one_that_is_shown(line: str, answer: str) -> None:
    assert "".join(call(*line.split()).output.split()) == "".join(answer.split())
