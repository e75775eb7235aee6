"""Classes that a recipe names as ``package.module:Class``."""

import sys
from contextlib import suppress
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.schema import Recipe

C = TypeVar("C")


def import_class(recipe: Recipe, key: str, text: str, base: type[C]) -> type[C]:
    """Import a class; modules of the working folder are found, as ``python -m`` finds them.

    Args:
        recipe: The recipe.
        key: Its key that names the class, for messages.
        text: Such as ``package.module:Class``.
        base: What it has to be a kind of.

    Raises:
        RecipeError: if it cannot be imported, or is not of that kind.
    """
    module, _, name = text.partition(":")
    try:
        found = reduce(getattr, name.split("."), _import(module))
    except Exception as error:  # what a module does when it is imported is its own
        raise _refused(recipe, key, text, f"cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise _refused(recipe, key, text, f"is no subclass of {base.__module__}.{base.__name__}")
    return found


def _import(module: str) -> object:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return import_module(module)
    finally:
        with suppress(ValueError):
            sys.path.remove(here)


def _refused(recipe: Recipe, key: str, text: str, reason: str) -> RecipeError:
    allowed = "a class as package.module:Class"
    return RecipeError(Problem(f"recipe {recipe.name}", key, reason, f"'{text}'", allowed))
