"""Lets the API reference read the package's docstrings: doctests and roles become Markdown."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|attr|mod):`~?([^`]+)`")


class DocstringMarkdown(griffe.Extension):
    """Fences doctests as code, and shows roles such as ``:class:`` as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = markdown_of(obj.docstring.value)


def markdown_of(docstring: str) -> str:
    """Return a docstring with its doctests in fences and its roles as plain code.

    Example:
        >>> print(markdown_of("See :class:`Solver`."))
        See `Solver`.
    """
    lines: list[str] = []
    indent: str | None = None
    for line in _ROLE.sub(r"`\1`", docstring).splitlines():
        if indent is None and line.lstrip().startswith(">>>"):
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(f"{indent}```pycon")
        elif indent is not None and not line.strip():
            lines.append(f"{indent}```")
            indent = None
        lines.append(line)
    if indent is not None:
        lines.append(f"{indent}```")
    return "\n".join(lines)
