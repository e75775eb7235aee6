"""How a training steps: an optimizer, and a learning rate that changes with the steps."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.names import ScheduleName
from rnode_dyn.recipe.schema import Recipe, StageRecipe
from rnode_dyn.training.loop.imported import import_class
from rnode_dyn.training.muon import Muon

_COOLING = 0.2
"""Fraction of the steps over which ``cooldown`` falls, at the end."""


@dataclass(frozen=True)
class OptimizerSettings:
    """An optimizer, a linear warm-up and what the learning rate does after it.

    Attributes:
        learning_rate: After the warm-up.
        warmup_steps: Steps over which the rate rises from near 0.
        schedule: What follows: ``"constant"``; ``"cosine"`` or ``"linear"`` down to 0 at the last
            step; ``"cooldown"``, constant and then down to 0 over the last fifth; or
            ``"inverse-sqrt"``, falling as one over the square root of the steps.
        weight_decay: Decoupled weight decay of AdamW.
        kind: Another optimizer than AdamW.
        keys: What that one is given beside parameters and learning rate.
    """

    learning_rate: float = 1e-3
    warmup_steps: int = 0
    schedule: ScheduleName = "constant"
    weight_decay: float = 0.0
    kind: type[Optimizer] | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimizer of some parameters."""
        if self.kind is None:
            return torch.optim.AdamW(parameters, self.learning_rate, weight_decay=self.weight_decay)
        return self.kind(parameters, lr=self.learning_rate, **self.keys)  # type: ignore[call-arg]

    def factor(self, step: int, total: float) -> float:
        """Return the learning rate at ``step`` of ``total``, as a fraction of its peak.

        Example:
            >>> settings = OptimizerSettings(warmup_steps=10, schedule="cosine")
            >>> [round(settings.factor(step, 110), 2) for step in (0, 9, 10, 60, 110)]
            [0.1, 1.0, 1.0, 0.5, 0.0]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        left = 1 - min(1.0, (step - self.warmup_steps) / max(1.0, total - self.warmup_steps))
        match self.schedule:
            case "constant":
                return 1.0
            case "cosine":
                return 0.5 * (1 - math.cos(math.pi * left))
            case "linear":
                return left
            case "cooldown":
                return min(1.0, left / _COOLING)
            case "inverse-sqrt":
                return math.sqrt(max(1, self.warmup_steps) / (step + 1))


def optimizer_settings(recipe: Recipe, stage: StageRecipe) -> OptimizerSettings:
    """Return how a stage steps.

    Raises:
        RecipeError: if the optimizer cannot be imported.
    """
    assert stage.learning_rate is not None  # a complete stage has them all
    assert stage.warmup_steps is not None
    assert stage.schedule is not None
    named = recipe.train.optimizer
    return OptimizerSettings(
        stage.learning_rate,
        stage.warmup_steps,
        stage.schedule,
        recipe.train.weight_decay,
        None if named is None else _kind(recipe, named.name),
        {} if named is None else named.keys,
    )


def check_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> None:
    """Refuse an optimizer that these parameters cannot be given to with the recipe's keys.

    Raises:
        RecipeError: if it cannot be imported, or does not take its keys or the parameters.
    """
    settings = optimizer_settings(recipe, recipe.train.stages[0])
    try:
        settings.build(list(parameters))
    except (TypeError, ValueError, RuntimeError) as error:
        said = str(error).partition("__init__() ")
        raise RecipeError(
            Problem(f"recipe {recipe.name}", "train.optimizer", said[2] or said[0])
        ) from error


def _kind(recipe: Recipe, name: str) -> type[Optimizer]:
    if name == "muon":
        return Muon
    if ":" in name:
        return import_class(recipe, "train.optimizer.name", name, Optimizer)
    by_name = {known.lower(): kind for known, kind in vars(torch.optim).items()}
    return by_name[name]
