"""Warm-ups that a training does not come out of: said before it begins."""

from collections.abc import Callable

from rnode_dyn.recipe.schema import Recipe


def tell_of_warm_ups(recipe: Recipe, tell: Callable[[str], None]) -> None:
    """Say so where a stage ends before its learning rate has risen.

    Example:
        >>> train = {"max_steps": 50, "warmup_steps": 100, "learning_rate": 0.01}
        >>> tell_of_warm_ups(Recipe(name="x", data={"dataset": "fake"}, train=train), print)
        train.warmup_steps = 100, and it ends after 50 steps: the learning rate never comes to 0.01,
        but to 0.005
    """
    for number, stage in enumerate(recipe.train.stages):
        steps, rises = stage.max_steps, stage.warmup_steps or 0
        if steps is None or steps >= rises:
            continue
        key = f"train.stage.{number}" if recipe.train.stage else "train"
        rate = stage.learning_rate or 0.0
        tell(
            f"{key}.warmup_steps = {rises:,}, and it ends after {steps:,} steps: the learning rate "
            f"never comes to {rate:g}, but to {rate * steps / rises:.3g}"
        )
