"""From a run folder back to its trained flow."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import build_model
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.errors import RunError, RunWarning
from rnode_dyn.runs.folder import RunFolder

_PREFIX = "model."


def load_flow(
    folder: RunFolder, name: str | None = None, overrides: Iterable[str] = ()
) -> tuple[Recipe, MultiscaleFlow]:
    """Return a run's recipe and its trained flow, in evaluation mode, on the CPU.

    Args:
        folder: The run.
        name: Which weights, as for :meth:`RunFolder.checkpoint`.
        overrides: Keys of the recipe and other values for them, such as ``solver.eval.rtol=1e-7``.

    Raises:
        RunError: if the folder is no run, has no such weights, or its recipe is another model's.
        RecipeError: if an override is wrong.
    """
    checkpoint = folder.checkpoint(name)
    recipe = _overridden(folder, overrides)
    weights = _weights_in(checkpoint)
    model = build_model(_as_trained(folder, recipe, weights))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            f"the weights in {checkpoint} do not fit the model of {folder.recipe}: has the "
            "recipe been changed since?"
        ) from error
    lay_out(model, torch.device("cpu"))
    return recipe, model.eval()


def as_begun(folder: RunFolder, recipe: Recipe) -> Recipe:
    """Return the recipe of the model that a run was begun with, given what is to go on.

    Raises:
        RunError: if its last checkpoint is damaged.
    """
    return _as_trained(folder, recipe, _weights_in(folder.last_checkpoint))


def _overridden(folder: RunFolder, overrides: Iterable[str]) -> Recipe:
    recipe, own = load_recipe(folder.recipe, overrides), load_recipe(folder.recipe)
    if recipe.data.standardize != own.data.standardize:
        raise RunError(
            f"data.standardize is part of the flow in {folder.path}, and cannot be changed any "
            "more: leave it out."
        )
    return recipe


def _weights_in(checkpoint: Path) -> dict[str, Any]:
    state = read_checkpoint(checkpoint)["state_dict"]
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
