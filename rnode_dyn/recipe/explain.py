"""Turns the schema's refusals into problems a person can act on."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rnode_dyn.recipe import tables
from rnode_dyn.recipe.describe import allowed_at, choices_at, in_words, keys_at, with_kind
from rnode_dyn.recipe.errors import Problem
from rnode_dyn.recipe.keys import Spot, follow
from rnode_dyn.recipe.layers import Layers
from rnode_dyn.recipe.scales import Path, recipes_own
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.recipe.spelling import dotted, nearest_key, nearest_value

_FOLLOWS = "default_factory_not_called"
"""pydantic's error for a default that waits for a wrong key: that key is reported itself."""


def problems_in(refusal: ValidationError, layers: Layers) -> list[Problem]:
    """Every problem of a recipe that the schema refused, each once.

    Args:
        refusal: What pydantic raised for a `Recipe`.
        layers: The files and overrides that the recipe was made of.
    """
    errors: dict[Path, ErrorDetails] = {}
    for error in refusal.errors(include_url=False):
        if error["type"] != _FOLLOWS:
            errors.setdefault(_path_of(error), error)
    return [_problem(path, error, layers) for path, error in errors.items() if _leads(path, errors)]


def _path_of(error: ErrorDetails) -> Path:
    """Where the mistake is: pydantic's location, less the union members it tried."""
    if error["type"] == tables.RULE:
        return (*error["loc"], *_split(_rule(error)["key"]))
    if error["type"] == "extra_forbidden":
        return error["loc"]
    return follow(Recipe, error["loc"])[0]


def _split(key: str) -> Path:
    return tuple(int(part) if part.isdigit() else part for part in key.split(".") if part)


def _leads(path: Path, errors: Mapping[Path, Any]) -> bool:
    """Whether the error at `path` is no mere echo of another one.

    A list is refused again after one of its entries was, and a mistake in a table that scales
    inherit is found in each of them.
    """
    has_inner = any(other[: len(path)] == path and other != path for other in errors)
    is_inherited = recipes_own(path) != path and recipes_own(path) in errors
    return not (has_inner or is_inherited)


def _problem(path: Path, error: ErrorDetails, layers: Layers) -> Problem:
    source, key, given = layers.source_of(path), dotted(path), error["input"]
    spot = follow(Recipe, path)[1]
    match error["type"]:
        case tables.RULE:
            rule = _rule(error)
            near = rule["suggestion"]
            return Problem(source, key, rule["reason"], _shown(rule["given"]), suggestion=near)
        case "missing":
            return Problem(source, key, "this key is required", allowed=allowed_at(spot))
        case "extra_forbidden":
            nearest = nearest_key(Recipe, path)
            return Problem(source, key, "unknown key", in_words(given), keys_at(spot), nearest)
        case kind:
            shown = with_kind(given) if kind.endswith("_type") else in_words(given)
            nearest = _nearest_choice(given, spot)
            return Problem(source, key, "", shown, allowed_at(spot), nearest)


def _rule(error: ErrorDetails) -> dict[str, Any]:
    return error.get("ctx", {})


def _shown(given: Any) -> str:
    return "" if given is None else in_words(given)


def _nearest_choice(given: Any, spot: Spot) -> str:
    return nearest_value(given, choices_at(spot)) if isinstance(given, str) else ""
