"""Lightning's trainer for one stage of a recipe."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from rich.console import Console

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.schema import Recipe, StageRecipe
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.history import RunLogger
from rnode_dyn.training.loop.display import TrainingDisplay
from rnode_dyn.training.loop.keeper import Keeper
from rnode_dyn.training.loop.sample_grids import SampleGrids
from rnode_dyn.training.loop.step_seed import StepSeed
from rnode_dyn.training.loop.thread_trial import ThreadTrial

_LOG_EVERY = 10


def make_trainer(
    recipe: Recipe,
    number: int,
    folder: RunFolder,
    logger: RunLogger,
    console: Console,
    extra: Sequence[Callback] = (),
) -> pl.Trainer:
    """Make the trainer of a stage.

    Args:
        recipe: The recipe.
        number: Number of the stage, from 0.
        folder: Where checkpoints and pictures go.
        logger: Where figures go.
        console: Where progress is shown.
        extra: More callbacks.

    Raises:
        RecipeError: if this machine has not what the recipe asks for.
    """
    train = recipe.train
    stage = train.stages[number]
    in_steps = train.validate_every_steps
    with blaming_the_devices(recipe), quiet_lightning():
        return pl.Trainer(
            accelerator=train.accelerator,
            devices=train.devices,
            num_nodes=train.nodes,
            strategy=train.strategy,
            precision=train.precision,
            max_epochs=-1 if stage.epochs is None else stage.epochs,
            max_steps=-1 if stage.max_steps is None else stage.max_steps,
            max_time=_time_limit(stage),
            gradient_clip_val=train.clip,
            val_check_interval=in_steps,
            check_val_every_n_epoch=train.validate_every if in_steps is None else None,
            num_sanity_val_steps=0,
            log_every_n_steps=_LOG_EVERY,
            logger=logger,
            callbacks=[*_callbacks(recipe, number, folder, console), *extra, Keeper(folder)],
            enable_progress_bar=False,
            enable_model_summary=False,
        )


@contextmanager
def blaming_the_devices(recipe: Recipe) -> Iterator[None]:
    """Say of what Lightning refuses that the recipe's training asks for it.

    Raises:
        RecipeError: if this machine has not what the recipe asks for.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, ImportError, RuntimeError) as error:
        raise RecipeError(Problem(f"recipe {recipe.name}", "train", str(error))) from error


def _time_limit(stage: StageRecipe) -> timedelta | None:
    return None if stage.max_minutes is None else timedelta(minutes=stage.max_minutes)


def _callbacks(recipe: Recipe, number: int, folder: RunFolder, console: Console) -> list[Callback]:
    stages = recipe.train.stages
    limit = _time_limit(stages[number])
    seconds = None if limit is None else limit.total_seconds()
    name = f"stage {number + 1}/{len(stages)}, {stages[number].objective}"
    callbacks: list[Callback] = [
        TrainingDisplay(console, max_seconds=seconds, name=name if len(stages) > 1 else ""),
        # The trial draws numbers: the seed of the first step comes after it.
        *([ThreadTrial()] if recipe.train.threads == "auto" else []),
        StepSeed(recipe.seed),
    ]
    if recipe.samples.every is not None:
        callbacks.append(SampleGrids(recipe, folder.samples))
    if recipe.train.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=recipe.train.ema))
    return callbacks


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's announcements and its advice about workers off the screen."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in ("pytorch_lightning", "lightning_fabric"):
                warnings.filterwarnings("ignore", module=module)
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        logger.setLevel(level)
