"""The recipe of a run: its ``recipe.toml``, or where that is damaged what a checkpoint kept."""

from collections.abc import Callable, Iterable

from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.load import load_recipe, recipe_from_toml
from rnode_dyn.recipe.read import read_toml
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.kept import kept_beside


def recipe_of(
    folder: RunFolder,
    overrides: Iterable[str] = (),
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> Recipe:
    """Return a run's recipe.

    Args:
        folder: The run.
        overrides: Keys of the recipe and other values for them.
        tell: Takes a sentence where ``recipe.toml`` is damaged.

    Raises:
        RecipeError: if it is damaged and no checkpoint has kept it, or says what cannot be.
    """
    try:
        read_toml(folder.recipe)
    except RecipeError as damage:
        text = _kept(folder)
        if text is None:
            raise
        tell(f"{damage}; the recipe that its checkpoint kept is taken")
        return recipe_from_toml(text, str(folder.recipe), overrides)
    return load_recipe(folder.recipe, overrides)


def _kept(folder: RunFolder) -> str | None:
    from rnode_dyn.runs.checkpoints import read_checkpoint  # which needs torch

    for path in (folder.last_checkpoint, folder.previous_checkpoint, folder.best_checkpoint):
        try:
            kept = kept_beside(read_checkpoint(path))
        except RunError:
            continue
        if "recipe" in kept:
            return kept["recipe"]
    return None
