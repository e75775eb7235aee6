"""Completes the tables of single scales from the recipe's own."""

from typing import Any

from pydantic import BaseModel

from rnode_dyn.recipe.merge import overlay

Path = tuple[str | int, ...]

_OWN_TABLES: dict[str, Path] = {
    "field": ("model", "field"),
    "solver": ("solver",),
    "divergence": ("divergence",),
    "regularizers": ("regularizers",),
}


def complete_scales(recipe: Any) -> Any:
    """The recipe with each scale's `field`, `solver`, … laid over the recipe's own.

    A recipe of another form than expected comes back as it is: to refuse it is the schema's part.

    Example:
        >>> scales = [{"solver": {"step": 0.1}}]
        >>> complete_scales({"solver": {"algorithm": "rk4"}, "model": {"scale": scales}})["model"]
        {'scale': [{'solver': {'algorithm': 'rk4', 'step': 0.1}}]}
    """
    match _plain(recipe):
        case {"model": {"scale": [*scales]} as model} as table:
            completed = [_complete(scale, table) for scale in scales]
            return {**table, "model": {**model, "scale": completed}}
    return recipe


def recipes_own(path: Path) -> Path:
    """Where the recipe itself says what `path` says for one scale; else `path`.

    Example:
        >>> recipes_own(("model", "scale", 0, "solver", "step"))
        ('solver', 'step')
    """
    match path:
        case ("model", "scale", int(), str(name), *rest) if name in _OWN_TABLES:
            return (*_OWN_TABLES[name], *rest)
    return path


def _complete(scale: Any, recipe: dict[str, Any]) -> Any:
    if not isinstance(scale, dict):
        return scale
    completed = {
        name: overlay(_at(recipe, _OWN_TABLES[name]), table)
        for name, table in scale.items()
        if name in _OWN_TABLES
    }
    return {**scale, **completed}


def _at(recipe: dict[str, Any], path: Path) -> Any:
    found: Any = recipe
    for key in path:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found


def _plain(value: Any) -> Any:
    """`value` with objects of the schema turned back into tables."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
