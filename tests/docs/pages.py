"""The documentation's pages and the code in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# ```python, or ```{ .python title="…" }, which ruff does not take for Python to format.
_FENCE = re.compile(r"^ *```(?:{ *\.)?(?P<language>\w*)[^\n`]*\n(?P<text>.*?)^ *```$", re.M | re.S)
_WRITTEN = re.compile(r'Path\("(\w+\.toml)"\)\.write_text\("""(.*?)"""', re.S)
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


def all_blocks_of(page: Path) -> list[Block]:
    """The page's fenced blocks, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(match["language"], match["text"], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The page's fenced blocks in these languages, in order."""
    return [block for block in all_blocks_of(page) if block.language in languages]


def sentences_of(page: Path) -> list[str]:
    """What stands as code within the page's sentences and tables."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", page.read_text(encoding="utf-8")))


def write_recipes(page: Path) -> None:
    """Write the recipes that the page shows, or its Python writes, into the current folder."""
    for block in blocks_of(page, "toml"):
        if name := re.match(r'(?:extends = .*\n)?name = "(.+)"', block.text):
            Path(f"{name[1]}.toml").write_text(block.text, encoding="utf-8")
    for block in blocks_of(page, "python"):
        for name, text in _WRITTEN.findall(block.text):
            Path(name).write_text(text, encoding="utf-8")


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
