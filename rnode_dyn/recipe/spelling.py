"""Finds the nearest right spelling of a key or a name."""

from collections.abc import Iterable
from difflib import get_close_matches

from rnode_dyn.recipe.keys import Spot, follow, keys_below, table_at
from rnode_dyn.recipe.scales import Path
from rnode_dyn.recipe.tables import Table


def dotted(path: Path) -> str:
    """`path` as it is written: `model.scale.0.blocks`."""
    return ".".join(map(str, path))


def nearest_name(given: str, names: Iterable[str], likeness: float = 0.6) -> str:
    """The name nearest to `given`, or an empty string.

    Example:
        >>> nearest_name("RK-4", ["euler", "rk4"])
        'rk4'
    """
    found = get_close_matches(given.lower(), list(names), n=1, cutoff=likeness)
    return found[0] if found else ""


def nearest_value(given: str, values: Iterable[str]) -> str:
    """The value nearest to `given`, or the only one that begins with it, or an empty string.

    Example:
        >>> nearest_value("bf16", ["32-true", "bf16-mixed"])
        'bf16-mixed'
    """
    values = list(values)
    beginning = [value for value in values if value.startswith(given.lower())]
    only = beginning[0] if given and len(beginning) == 1 else ""
    return nearest_name(given, values) or only


def nearest_key(root: type[Table], path: Path) -> str:
    """The dotted key that a user who wrote the unknown key `path` most likely meant.

    A very near spelling in the same table comes first; then the same name in another table, for
    it is easy to put a key into the wrong one; then spellings less near.

    Example:
        >>> from rnode_dyn.recipe.schema import Recipe
        >>> nearest_key(Recipe, ("model", "learning_rate"))
        'train.learning_rate'
    """
    *start, name = path
    beside = _beside(root, tuple(start))
    elsewhere = _elsewhere(root, tuple(start))
    attempts = ((beside, 0.75), (elsewhere, 1.0), (beside, 0.6), (elsewhere, 0.75))
    for keys, likeness in attempts:
        found = nearest_name(str(name), keys, likeness)
        if found:
            return dotted(keys[found])
    return ""


def _beside(root: type[Table], start: Path) -> dict[str, Path]:
    table = table_at(_spot(root, start))
    return {name: (*start, name) for name in table.model_fields} if table else {}


def _elsewhere(root: type[Table], start: Path) -> dict[str, Path]:
    """The keys of other tables by name: those below `start` win, then those nearest the top."""
    table = table_at(_spot(root, start))
    below = keys_below(table, start) if table else ()
    found: dict[str, Path] = {}
    for path in (*below, *keys_below(root)):
        found.setdefault(str(path[-1]), path)
    return found


def _spot(root: type[Table], path: Path) -> Spot:
    return follow(root, path)[1]
