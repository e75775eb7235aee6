"""Reads a recipe file and the files it extends, without judging what they say."""

import re
import tomllib
from pathlib import Path
from typing import Any

from rnode_dyn.recipe.describe import with_kind
from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.layers import Layer
from rnode_dyn.recipe.library import find_recipe

DEEPEST = 30
"""Levels of tables and lists; a recipe has six."""

_PLACE = re.compile(r"(?P<reason>.*) \(at (?P<place>.*)\)$", re.DOTALL)
"""How tomllib ends its messages: the reason, then the line and column."""


def read_layers(path_or_name: str | Path) -> list[Layer]:
    """What the recipe file says and what each file it extends says, the earliest first.

    Raises:
        RecipeError: If a file is missing, unreadable or not TOML, or extends itself.
    """
    chain: list[Path] = []
    layers: list[Layer] = []
    wanted, extended_by = path_or_name, None
    while wanted is not None:
        path = find_recipe(wanted, extended_by)
        _refuse_circle(chain, path)
        chain.append(path)
        table = read_toml(path)
        wanted, extended_by = _pop_extends(table, path), path
        layers.insert(0, Layer(str(path), table))
    return layers


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        RecipeError: If the file cannot be read, is not UTF-8, or is not TOML.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(str(path), f"cannot be read: {error.strerror}") from None
    return parse_toml(data, str(path))


def parse_toml(data: bytes, source: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        RecipeError: If it is not UTF-8, not TOML, or nested more deeply than any recipe.
    """
    try:
        # Some editors begin a file with a byte order mark, which TOML does not know.
        table = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _unreadable(source, f"line {line}: not UTF-8 text: save it as UTF-8") from None
    except RecursionError:
        raise _too_deep(source) from None
    except ValueError as error:  # TOMLDecodeError, and a number of too many digits
        raise _unreadable(source, _not_toml(str(error))) from None
    if nests_deeper(table, DEEPEST):
        raise _too_deep(source)
    return table


def nests_deeper(value: Any, levels: int) -> bool:
    """Whether tables and lists lie in each other on more than so many levels.

    Example:
        >>> nests_deeper({"a": [{"b": 1}]}, 3), nests_deeper({"a": [{"b": 1}]}, 2)
        (False, True)
    """
    found = [value]
    for _ in range(levels):
        inner = filter(_holds, found)
        found = [x for item in inner for x in (item.values() if isinstance(item, dict) else item)]
    return any(map(_holds, found))


def _holds(value: Any) -> bool:
    return isinstance(value, dict | list)


def _too_deep(source: str) -> RecipeError:
    return _unreadable(source, "not TOML that can be read: it is nested too deeply")


def _unreadable(source: str, reason: str) -> RecipeError:
    return RecipeError(Problem(source, reason=reason))


def _not_toml(message: str) -> str:
    parts = _PLACE.match(message)
    return f"{parts['place']}: not TOML: {parts['reason']}" if parts else f"not TOML: {message}"


def _pop_extends(table: dict[str, Any], path: Path) -> str | None:
    extends = table.pop("extends", None)
    if extends is not None and not isinstance(extends, str):
        allowed = "the path of a recipe file, or a recipe's name"
        given = with_kind(extends)
        raise RecipeError(Problem(str(path), "extends", "", given, allowed))
    return extends


def _refuse_circle(chain: list[Path], path: Path) -> None:
    if path.resolve() in [earlier.resolve() for earlier in chain]:
        circle = " → ".join(map(str, [*chain, path]))
        reason = f"the recipes extend each other in a circle, {circle}: drop one extends"
        raise RecipeError(Problem(str(chain[-1]), "extends", reason))
