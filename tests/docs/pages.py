"""The documentation's pages and the code in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# ```python, or ```{ .python title="…" }, which ruff does not take for Python to format.
_FENCE = re.compile(r"^ *```(?:{ *\.)?(?P<language>\w*)[^\n`]*\n(?P<text>.*?)^ *```$", re.M | re.S)
_INCLUDE = re.compile(r'^--8<-- "(.+)"$')


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: What its fence says first.
        text: What stands in it.
        line: Line of the page on which the text begins.
    """

    language: str
    text: str
    line: int

    @property
    def included(self) -> Path | None:
        """The file that the block shows instead of text of its own."""
        include = _INCLUDE.match(self.text.strip())
        return None if include is None else ROOT / include.group(1)


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The page's fenced blocks in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match["language"], match["text"], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def shortened(code: str) -> str:
    """The code with what stands behind ``# tests:`` in the place of the number before it.

    >>> shortened("steps = 600  # tests: 2")
    'steps = 2'
    >>> shortened("for step in range(500):  # tests: 2")
    'for step in range(2):'
    """
    code = re.sub(r"= [^=\n]+?(,?)  # tests: (.*)$", r"= \2\1", code, flags=re.M)
    return re.sub(r"range\(\d+\):  # tests: (\d+)$", r"range(\1):", code, flags=re.M)


def name_of(path: Path) -> str:
    """A page's or an example's path, as test reports show it."""
    return path.relative_to(ROOT).as_posix()
