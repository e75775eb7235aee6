"""From a run folder back to its trained flow."""

from collections.abc import Iterable

import torch

from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import build_model
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.errors import RunError
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
    recipe = load_recipe(folder.recipe, overrides)
    model = build_model(recipe)
    state = read_checkpoint(checkpoint)["state_dict"]
    weights = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            f"the weights in {checkpoint} do not fit the model of {folder.recipe}: has the "
            "recipe been changed since?"
        ) from error
    lay_out(model, torch.device("cpu"))
    return recipe, model.eval()
