"""From a run folder back to its trained flow."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch

from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import build_model
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.changes import changes_in, table_of
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.errors import RunError, RunWarning
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.kept import kept_beside
from rnode_dyn.runs.recipe_of import recipe_of

_PREFIX = "model."


def load_flow(
    folder: RunFolder,
    name: str | None = None,
    overrides: Iterable[str] = (),
    *,
    tell: Callable[[str], None] = warnings.warn,
) -> tuple[Recipe, MultiscaleFlow]:
    """Return a run's recipe and its trained flow, in evaluation mode, on the CPU.

    Args:
        folder: The run.
        name: Which weights, as for :meth:`RunFolder.checkpoint`.
        overrides: Keys of the recipe and other values for them, such as ``solver.eval.rtol=1e-7``.
        tell: Takes a sentence where ``recipe.toml`` is not what the weights were trained with.

    Raises:
        RunError: if the folder is no run, has no such weights, or its recipe is another model's.
        RecipeError: if an override is wrong.
    """
    checkpoint = folder.checkpoint(name)
    recipe = _overridden(folder, overrides, tell)
    kept = read_checkpoint(checkpoint)
    weights = _weights_in(kept)
    model = build_model(_as_trained(folder, recipe, weights))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            f"the weights in {checkpoint} do not fit the model of {folder.recipe}: has the "
            "recipe been changed since?"
        ) from error
    _tell_of_changes(folder, kept, tell)
    lay_out(model, torch.device("cpu"))
    return recipe, model.eval()


def as_begun(folder: RunFolder, recipe: Recipe) -> Recipe:
    """Return the recipe of the model that a run was begun with, given what is to go on."""
    for path in (folder.last_checkpoint, folder.previous_checkpoint):
        try:
            return _as_trained(folder, recipe, _weights_in(read_checkpoint(path)))
        except RunError:
            continue  # whether there is one to go on from is told by whoever takes the run up
    return recipe


def _overridden(folder: RunFolder, overrides: Iterable[str], tell: Callable[[str], None]) -> Recipe:
    recipe, own = recipe_of(folder, overrides, tell=tell), recipe_of(folder)
    for key in ("standardize", "dequantization"):
        if getattr(recipe.data, key) != getattr(own.data, key):
            raise RunError(
                f"data.{key} is part of the flow in {folder.path}, and cannot be changed any "
                "more: leave it out."
            )
    return recipe


def _weights_in(checkpoint: dict[str, Any]) -> dict[str, Any]:
    state = checkpoint["state_dict"]
    return {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}


def _as_trained(folder: RunFolder, recipe: Recipe, weights: dict[str, Any]) -> Recipe:
    """Return the recipe that builds a model for these weights, which may be an old run's."""
    if not recipe.data.standardize or any(k.startswith("preprocess.") for k in weights):
        return recipe
    warnings.warn(
        f"{folder.path} is of a run whose weights lack the shift and scale that its data were "
        f"standardised by: they were not kept then. The flow stays in standardised units: its "
        f"samples and densities are of (x − shift)/scale, not of x. Train it anew to have them "
        f"in the data's own units.",
        RunWarning,
        stacklevel=3,
    )
    data = recipe.data.model_copy(update={"standardize": False})
    return recipe.model_copy(update={"data": data})


def _tell_of_changes(
    folder: RunFolder, checkpoint: dict[str, Any], tell: Callable[[str], None]
) -> None:
    """Say what a recipe has otherwise that figures depend on, be it changed or cut off."""
    trained = kept_beside(checkpoint).get("recipe")
    if trained is None:  # an older version's checkpoint
        return
    now = recipe_of(folder).model_dump(exclude_none=True)
    for change in changes_in(table_of(trained), now):
        if change.is_measured:
            tell(f"{folder.recipe} says {change}, when the weights were trained")
