"""What a training is given beside its own: callbacks and loggers, the recipe's and the caller's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.loop.imported import import_class
from rnode_dyn.training.loop.loggers import build_logger, check_logger


@dataclass(frozen=True)
class Plugged:
    """What is plugged into a training.

    Attributes:
        callbacks: Lightning's callbacks; all stages have the same.
        loggers: Told what ``metrics.csv`` is; the recipe's own comes when the run begins.
    """

    callbacks: tuple[pl.Callback, ...]
    loggers: list[Logger]

    def begin(self, recipe: Recipe, folder: RunFolder) -> None:
        """Make the recipe's logger, which writes into the run's folder, and tell all the recipe."""
        own = build_logger(recipe, folder)
        self.loggers.extend([] if own is None else [own])
        for logger in self.loggers:
            logger.log_hyperparams(recipe.model_dump(exclude_none=True))


def plug_in(recipe: Recipe, callbacks: Sequence[pl.Callback], logger: Any) -> Plugged:
    """Look at all that is to be plugged in, before anything else is done.

    Raises:
        RecipeError: if the recipe's logger is not installed, or a class cannot be imported.
        TypeError: if the caller's are no callbacks, or no loggers.
    """
    check_logger(recipe)
    several = logger if isinstance(logger, Sequence) else [] if logger is None else [logger]
    for given, kind in [(c, pl.Callback) for c in callbacks] + [(g, Logger) for g in several]:
        if not isinstance(given, kind):
            raise TypeError(
                f"{given!r} is no {kind.__name__} of Lightning: give an instance of "
                f"pytorch_lightning's {kind.__name__}, or of a subclass."
            )
    named = [_made(recipe, number, text) for number, text in enumerate(recipe.train.callbacks)]
    return Plugged((*named, *callbacks), list(several))


def _made(recipe: Recipe, number: int, text: str) -> pl.Callback:
    key = f"train.callbacks.{number}"
    kind = import_class(recipe, key, text, pl.Callback)
    try:
        return kind()
    except Exception as error:  # what a class does when it is made is its own
        reason = f"cannot be made without arguments: {error}"
        raise RecipeError(Problem(f"recipe {recipe.name}", key, reason, f"'{text}'")) from error
