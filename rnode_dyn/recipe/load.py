"""Loads a recipe from TOML, with what it extends and what overrides it, and writes one back."""

from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from pydantic import ValidationError

from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.explain import problems_in
from rnode_dyn.recipe.layers import Layer, Layers
from rnode_dyn.recipe.library import packaged_recipes
from rnode_dyn.recipe.merge import overlay
from rnode_dyn.recipe.overrides import apply_overrides, parse_override
from rnode_dyn.recipe.read import parse_toml, read_layers
from rnode_dyn.recipe.schema import Recipe


class RecipeEntry(NamedTuple):
    """A packaged recipe, as a list of them shows it."""

    name: str
    title: str
    path: Path


def load_recipe(path_or_name: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a TOML file, or the packaged one of that name.

    Args:
        path_or_name: A path to a `.toml` file, or a name such as `quickstart`.
        overrides: Dotted keys and their values, such as `train.epochs=5`.

    Returns:
        The recipe, checked and complete.

    Raises:
        RecipeError: If something is wrong, with all that is wrong in one message.

    Example:
        >>> load_recipe("no-such-recipe", ["train.epochs=5"])
        Traceback (most recent call last):
        rnode_dyn.recipe.errors.RecipeError: no-such-recipe: no such recipe file or name; ...
    """
    return _validated(read_layers(path_or_name), overrides)


def recipe_from_toml(text: str, source: str, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe that a text says, such as :func:`recipe_to_toml` writes; it extends no other.

    Args:
        text: The recipe as TOML.
        source: How messages name it.
        overrides: As for :func:`load_recipe`.

    Raises:
        RecipeError: If something is wrong with it.
    """
    return _validated([Layer(source, parse_toml(text.encode(), source))], overrides)


def _validated(files: list[Layer], overrides: Iterable[str]) -> Recipe:
    parsed = [parse_override(text) for text in overrides]
    table = apply_overrides(_merged(files), parsed)
    try:
        return Recipe.model_validate(table)
    except ValidationError as refusal:
        layers = Layers(files, [override.layer for override in parsed])
        raise RecipeError(*problems_in(refusal, layers)) from None


def list_recipes() -> list[RecipeEntry]:
    """The recipes that ship with the package: their names, titles and files."""
    return [
        RecipeEntry(name, str(_merged(read_layers(path)).get("title", "")), path)
        for name, path in packaged_recipes().items()
    ]


def recipe_to_toml(recipe: Recipe) -> str:
    """The recipe as TOML, complete: every default is said, and loading it gives it back.

    Example:
        >>> recipe = Recipe(name="two-moons", data={"dataset": "moons"})
        >>> print(recipe_to_toml(recipe).splitlines()[0])
        name = "two-moons"
    """
    return tomli_w.dumps(recipe.model_dump(exclude_none=True))


def _merged(layers: Iterable[Layer]) -> dict[str, Any]:
    start: dict[str, Any] = {}
    return reduce(lambda table, layer: overlay(table, layer.table), layers, start)
