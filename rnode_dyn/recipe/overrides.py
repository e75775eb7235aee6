"""Reads overrides such as `train.epochs=5` and lays them over a recipe."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.layers import Layer
from rnode_dyn.recipe.merge import overlay, update
from rnode_dyn.recipe.read import DEEPEST, nests_deeper

_LONGEST = 200
"""Characters of an override that a message shows where its depth is what is wrong."""


@dataclass(frozen=True)
class Override:
    """One key of a recipe, and the value it is to have instead."""

    keys: tuple[str, ...]
    """The parts of the dotted key; a number is an index into a list."""

    value: Any
    """The value, as TOML reads it."""

    text: str
    """The override as it was typed."""

    @property
    def source(self) -> str:
        """How a message names the override."""
        return f"--set {self.text}"

    @property
    def layer(self) -> Layer:
        """The override as tables within tables."""
        table = self.value
        for key in reversed(self.keys):
            table = {key: table}
        return Layer(self.source, table)


def parse_override(text: str) -> Override:
    """The override that `text` says: a dotted key, `=`, and a TOML value or a bare word.

    Args:
        text: Such as `train.epochs=5`, `data.dataset=moons` or `model.scale.0.split=true`.

    Raises:
        RecipeError: If `text` has no key or no `=`.

    Example:
        >>> parse_override("train.epochs=5").value, parse_override("data.dataset=moons").value
        (5, 'moons')
    """
    key, equals, value = text.partition("=")
    keys = tuple(part.strip() for part in key.split("."))
    if not equals or not all(keys):
        raise _no_override(text, "not an override")
    if not _is_text(text):
        raise _no_override(ascii(text), "not an override: it has characters that are no text")
    parsed = _parse_value(value.strip())
    if len(keys) > DEEPEST or nests_deeper(parsed, DEEPEST):
        raise _no_override(_shortened(text), "not an override: it is nested too deeply")
    return Override(keys, parsed, text)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _is_text(text: str) -> bool:
    """Whether a text has neither NUL nor bytes that are no UTF-8, which a shell hands on."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _no_override(shown: str, reason: str) -> RecipeError:
    allowed = "a dotted key, = and a value, such as train.epochs=5"
    return RecipeError(Problem(f"--set {shown}", reason=reason, allowed=allowed))


def apply_overrides(table: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """`table` with every override laid over it.

    Overrides speak together: one replaces what it excludes in `table`, but two that exclude each
    other both stay, for the schema to refuse.

    Raises:
        RecipeError: If an index points past the end of its list.
    """
    together: dict[str, Any] = {}
    for override in overrides:
        _check_indices(override, overlay(table, together))
        together = update(together, override.layer.table)
    return overlay(table, together)


def _parse_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # not TOML, or more digits or depth than Python reads
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _check_indices(override: Override, table: Any) -> None:
    found = table
    for depth, key in enumerate(override.keys):
        entries = _entries(found)
        if key.isdigit() and entries is not None and int(key) >= len(entries):
            raise RecipeError(_past_the_end(override, depth, len(entries)))
        found = _inside(found, key)


def _entries(found: Any) -> list[Any] | None:
    """The entries that an index can choose from: of a list these, of nothing none."""
    return [] if found is None else found if isinstance(found, list) else None


def _inside(found: Any, key: str) -> Any:
    if isinstance(found, list) and key.isdigit():
        return found[int(key)]
    return found.get(key) if isinstance(found, Mapping) else None


def _past_the_end(override: Override, depth: int, length: int) -> Problem:
    whole, index = ".".join(override.keys[:depth]), override.keys[depth]
    reason = f"{whole} has no entry {index}" if length else f"{whole} has no entries"
    allowed = f"an index from 0 to {length - 1}" if length else ""
    return Problem(override.source, ".".join(override.keys), reason, allowed=allowed)
