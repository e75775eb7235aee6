"""The stages of a training, and what a step of each costs, as people and machines read it."""

from collections.abc import Mapping
from typing import Any

from rnode_dyn.costs.cost import TrainingCost, matching_flops, reflow_flops
from rnode_dyn.costs.epoch import hours
from rnode_dyn.costs.text import Rate, clock, unit
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
    recipe: Recipe,
    model: MultiscaleFlow,
    cost: TrainingCost,
    samples: int | None = None,
    rates: Mapping[str, Rate] | None = None,
) -> list[dict[str, Any]]:
    """Return every stage as plain values, with the operations of a step on one sample.

    ``hours`` are those of the steps, without validation: ``None`` where the rate, or the samples
    of an epoch that are needed for it, are not known.

    Args:
        recipe: The recipe.
        model: Its flow.
        cost: What a step of the likelihood costs.
        samples: Samples in an epoch, where they are known.
        rates: How fast a machine computes each objective, or each stage by ``stage_key``, where
            that is known.
    """
    return [
        {
            **stage.model_dump(exclude_none=True),
            "batch_size": stage.batch_size or recipe.data.batch_size,
            "flops_per_image_step": flops,
            "hours": _hours(recipe, number, flops, samples, rates or {}),
        }
        for number, stage in enumerate(recipe.train.stages)
        for flops in [_flops(stage, model, cost)]
    ]


def stage_key(number: int) -> str:
    """Return the name of a stage's own rate.

    Example:
        >>> stage_key(0)
        'stage 0'
    """
    return f"stage {number}"


def _flops(stage: StageRecipe, model: MultiscaleFlow, cost: TrainingCost) -> int:
    """Operations of a stage's step on one sample, its gradient included."""
    if stage.objective == "likelihood":
        return round(cost.step_flops / cost.batch_size)
    return matching_flops(model) + (reflow_flops(model) if stage.coupling == "reflow" else 0)


def _hours(
    recipe: Recipe, number: int, flops: int, samples: int | None, rates: Mapping[str, Rate]
) -> float | None:
    """Return how long a stage takes on a device: until the first of its ends that is known."""
    stage = recipe.train.stages[number]
    rate = rates.get(stage_key(number), rates.get(stage.objective))
    limit = None if stage.max_minutes is None else stage.max_minutes / 60
    batch = recipe.batch_size(stage) * recipe.train.accumulate
    steps = None if stage.max_steps is None else stage.max_steps * batch
    epochs = None if stage.epochs is None or samples is None else stage.epochs * samples
    images = min((count for count in (steps, epochs) if count is not None), default=None)
    if rate is None or images is None:
        return limit
    computed = hours(images, flops, rate.flops_per_second)
    return computed if limit is None else min(limit, computed)


def stage_lines(recipe: Recipe, figures: list[dict[str, Any]]) -> list[str]:
    """Return a line for each of several stages; none for a training that has only one."""
    if len(figures) == 1:
        return []
    return [
        f"stage {number} of {len(figures)}: {stage.objective} for {_end(stage)}, batches of "
        f"{values['batch_size']:,} at rate {stage.learning_rate:g}: "
        f"{unit(values['flops_per_image_step'], 'FLOP')} an image{_in_all(values['hours'])}"
        for number, (stage, values) in enumerate(
            zip(recipe.train.stages, figures, strict=True), start=1
        )
    ]


def _in_all(hours: float | None) -> str:
    return "" if hours is None else f", {clock(3600 * hours)} in all"


def _end(stage: StageRecipe) -> str:
    """Return when a stage ends: at the first of its lengths."""
    lengths = [(getattr(stage, key), word) for key, word in _ENDS.items()]
    return " or ".join(
        f"{length:,g} {word if length > 1 else word[:-1]}"
        for length, word in lengths
        if length is not None
    )
