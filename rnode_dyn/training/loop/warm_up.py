"""Warm-ups that a training does not come out of: said when it begins."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from rnode_dyn.recipe.schema import Recipe


class WarmUpTeller(pl.Callback):
    """Says so where a stage ends before its learning rate has risen, by its steps or its epochs.

    Args:
        key: The recipe's key of the warm-up.
        tell: Where to say it.
    """

    def __init__(self, key: str, tell: Callable[[str], None]) -> None:
        self.key, self.tell = key, tell

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compare the warm-up with all steps that there will be."""
        settings, steps = pl_module.optimizer_settings, trainer.estimated_stepping_batches
        rises, rate = settings.warmup_steps, settings.learning_rate
        if steps < rises:
            self.tell(
                f"{self.key} = {rises:,}, and the training ends after {steps:,} steps: the "
                f"learning rate never comes to {rate:g}, but to {rate * steps / rises:.3g}"
            )


def warm_up_key(recipe: Recipe, number: int) -> str:
    """Return the key that a stage's warm-up has in its recipe.

    Example:
        >>> stages = [{"max_steps": 2, "warmup_steps": 1}, {"max_steps": 2}]
        >>> recipe = Recipe(name="x", data={"dataset": "fake"}, train={"stage": stages})
        >>> warm_up_key(recipe, 0), warm_up_key(recipe, 1)
        ('train.stage.0.warmup_steps', 'train.warmup_steps')
    """
    own = recipe.train.stage and recipe.train.stage[number].warmup_steps is not None
    return f"train.stage.{number}.warmup_steps" if own else "train.warmup_steps"
