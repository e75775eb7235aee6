"""The stages of a training, and what a step of each costs, as people and machines read it."""

from typing import Any

from rnode_dyn.costs.cost import TrainingCost, matching_flops
from rnode_dyn.costs.text import unit
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.schema import Recipe, StageRecipe

_ENDS = {"max_steps": "steps", "epochs": "epochs", "max_minutes": "minutes"}


def likelihood_batch_size(recipe: Recipe) -> int:
    """Return how many samples a step of the likelihood takes: those of its last stage.

    Example:
        >>> stage = {"objective": "likelihood", "batch_size": 32}
        >>> likelihood_batch_size(
        ...     Recipe(name="x", data={"dataset": "fake"}, train={"stage": [stage]})
        ... )
        32
    """
    stages = [stage for stage in recipe.train.stages if stage.objective == "likelihood"]
    return (stages[-1].batch_size if stages else None) or recipe.data.batch_size


def stage_figures(
    recipe: Recipe, model: MultiscaleFlow, cost: TrainingCost
) -> list[dict[str, Any]]:
    """Return every stage as plain values, with the operations of a step on one sample.

    Args:
        recipe: The recipe.
        model: Its flow.
        cost: What a step of the likelihood costs.
    """
    flops = {
        "likelihood": round(cost.step_flops / cost.batch_size),
        "flow-matching": matching_flops(model),
    }
    return [
        {
            **stage.model_dump(exclude_none=True),
            "batch_size": stage.batch_size or recipe.data.batch_size,
            "flops_per_image_step": flops[stage.objective],
        }
        for stage in recipe.train.stages
    ]


def stage_lines(recipe: Recipe, figures: list[dict[str, Any]]) -> list[str]:
    """Return a line for each of several stages; none for a training that has only one."""
    if len(figures) == 1:
        return []
    return [
        f"stage {number} of {len(figures)}: {stage.objective} for {_end(stage)}, batches of "
        f"{values['batch_size']:,} at rate {stage.learning_rate:g}: "
        f"{unit(values['flops_per_image_step'], 'FLOP')} an image"
        for number, (stage, values) in enumerate(
            zip(recipe.train.stages, figures, strict=True), start=1
        )
    ]


def _end(stage: StageRecipe) -> str:
    """Return when a stage ends: at the first of its lengths."""
    lengths = [(getattr(stage, key), word) for key, word in _ENDS.items()]
    return " or ".join(
        f"{length:,g} {word if length > 1 else word[:-1]}"
        for length, word in lengths
        if length is not None
    )
