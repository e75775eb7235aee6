"""The governor that a recipe asks for."""

from collections.abc import Callable

import torch

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.splits import Splits
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import governed_blocks
from rnode_dyn.recipe.schema import GovernorRecipe, Recipe
from rnode_dyn.training.governor.governor import SEED, GovernorSettings, StepGovernor


def build_governor(
    recipe: Recipe,
    model: MultiscaleFlow,
    splits: Splits,
    batch_size: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> StepGovernor | None:
    """Return the governor of the blocks whose recipe says ``step = "auto"``, if any does.

    Args:
        recipe: The recipe.
        model: Its flow.
        splits: Its data: the first validation points are what is watched, or the first training
            points where there are no others.
        batch_size: Points in a training step, which a look's cost is kept in proportion to; left
            out, the recipe's.
        tell: Takes what the governor has to say.
    """
    blocks = governed_blocks(recipe, model)
    if not blocks:
        return None
    table = recipe.train.governor or GovernorRecipe()
    points = table.points or looked_at(batch_size or recipe.data.batch_size)
    held_out = splits.validation if len(splits.validation) else splits.train
    batch, conditions = held_out.head(points), splits.conditions_of(held_out)
    if splits.levels is not None:
        seeded = torch.Generator().manual_seed(SEED)
        batch = UniformDequantization(splits.levels)(batch, seeded)
    settings = GovernorSettings(table.tolerance, table.every, table.max_steps)
    given = None if conditions is None else conditions[:points]
    return StepGovernor(blocks, batch, settings, tell, given)


def looked_at(batch_size: int) -> int:
    """Return how many points a look takes, for it to cost little beside 50 training steps.

    Example:
        >>> looked_at(3), looked_at(32), looked_at(200)
        (8, 32, 64)
    """
    return min(64, max(8, batch_size))
