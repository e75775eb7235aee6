"""From a recipe to what stands in front of the blocks: learned noise, a logit or bells, units."""

import torch

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.standardize import Standardize
from rnode_dyn.flows.three_bells import ThreeBells
from rnode_dyn.flows.transforms import Compose, LogitTransform, Shift, Transform
from rnode_dyn.flows.variational import VariationalDequantization
from rnode_dyn.recipe.errors import problem_at
from rnode_dyn.recipe.schema import Recipe


def build_preprocess(recipe: Recipe, event: Event) -> Transform | None:
    """Return the transform in front of the blocks, if there is any.

    Raises:
        RecipeError: at a key that the data do not go with.
    """
    # Before all else: of columns, which alone are standardised, both refuse their keys.
    steps = [_build_dequantization(recipe, event), _build_shades(recipe, event)]
    if recipe.data.standardize:
        return Standardize(torch.zeros(event.shape), torch.ones(event.shape))
    there = [step for step in steps if step is not None]
    return Compose(there) if len(there) > 1 else next(iter(there), None)


def _build_dequantization(recipe: Recipe, event: Event) -> Transform | None:
    """What learns the noise, if that is asked for; uniform noise needs nothing."""
    given, key = recipe.data.dequantization, "data.dequantization"
    if given is None:
        return None
    if event.levels is None:
        what = "has continuous values, no pixels between which there would be gaps: drop it"
        raise problem_at(recipe.name, key, f"{recipe.data.dataset} {what}")
    if given == "uniform":
        return None
    if recipe.train.precision == "bf16-true":
        raise problem_at(
            recipe.name, key, "noise within a bin needs 32 bits: say bf16-mixed or 32-true"
        )
    try:
        return VariationalDequantization(event.shape, event.levels)
    except ValueError as error:
        raise problem_at(recipe.name, key, str(error)) from error


def _build_shades(recipe: Recipe, event: Event) -> Transform | None:
    """What takes the unit cube to where a flow begins."""
    alpha, bells = recipe.model.logit_alpha, recipe.model.bells
    if alpha is None and bells is None:
        return None
    if event.levels is None:
        raise problem_at(
            recipe.name,
            "model.logit_alpha" if bells is None else "model.bells",
            f"{recipe.data.dataset} has continuous values, not pixels between 0 and 1: drop it",
        )
    if bells is not None:
        return _build_bells(recipe, bells, event.levels)
    return LogitTransform(alpha) if alpha else Shift(-0.5)


def _build_bells(recipe: Recipe, ends: tuple[int, int], levels: int) -> Transform:
    if sum(ends) >= levels:
        reason = f"of {levels} levels none is left between the ends: say fewer, such as [1, 1]"
        raise problem_at(recipe.name, "model.bells", reason)
    if recipe.train.precision == "bf16-true":
        reason = "bell curves need 32 bits: say bf16-mixed or 32-true"
        raise problem_at(recipe.name, "model.bells", reason)
    return ThreeBells(*(end / levels for end in ends))
