"""Lightning's trainer for one stage of a recipe."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback
from rich.console import Console

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.schema import Recipe, StageRecipe, TrainRecipe
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.history import RunLogger
from rnode_dyn.training.loop.averaging import MovingAverage
from rnode_dyn.training.loop.display import TrainingDisplay
from rnode_dyn.training.loop.keeper import Keeper
from rnode_dyn.training.loop.live_report import LiveReport
from rnode_dyn.training.loop.precision import BFloat16Weights
from rnode_dyn.training.loop.sample_grids import SampleGrids
from rnode_dyn.training.loop.step_seed import StepSeed
from rnode_dyn.training.loop.thread_trial import ThreadTrial

_LOG_EVERY = 10
# Not all of Lightning: what it says of a process that was killed is to be read.
_TALKATIVE = ("pytorch_lightning", "lightning_fabric.utilities.distributed")


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
            strategy=_strategy(train),
            **_precision(train),
            accumulate_grad_batches=train.accumulate,
            # Processes take their rows of one process's batches: see data/sampling.py.
            use_distributed_sampler=False,
            max_epochs=-1 if stage.epochs is None else stage.epochs,
            max_steps=-1 if stage.max_steps is None else stage.max_steps,
            max_time=_time_limit(stage),
            gradient_clip_val=train.clip,
            val_check_interval=None if in_steps is None else in_steps * train.accumulate,
            limit_val_batches=0 if recipe.data.validation_size == 0 else None,
            check_val_every_n_epoch=train.validate_every if in_steps is None else None,
            num_sanity_val_steps=0,
            log_every_n_steps=_LOG_EVERY,
            logger=logger,
            callbacks=[
                *_callbacks(recipe, number, folder, console),
                *extra,
                _keeper(recipe, folder),
            ],
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


def processes_of(train: TrainRecipe) -> int:
    """Return how many processes train: one a device, on all nodes.

    Example:
        >>> processes_of(TrainRecipe(devices=2, nodes=3))
        6
    """
    if train.devices != "auto":
        return train.nodes * train.devices
    on_cpu = train.accelerator == "cpu"  # of which Lightning takes one
    return train.nodes * (1 if on_cpu else max(1, torch.cuda.device_count()))


def _strategy(train: TrainRecipe) -> str:
    """Lightning's strategy; of `ddp` the kind whose sums a run that goes on repeats bit for bit.

    The other kind puts the gradients in another order after its first step, and the order in which
    more than two processes add up depends on where a number stands.
    """
    own = train.strategy == "ddp" or (train.strategy == "auto" and processes_of(train) > 1)
    return "ddp_find_unused_parameters_true" if own else train.strategy


def _precision(train: TrainRecipe) -> dict[str, Any]:
    """Lightning's precision, but weights in bfloat16, which it takes more literally than we do."""
    if train.precision == "bf16-true":
        return {"plugins": [BFloat16Weights()]}
    return {"precision": train.precision}


def _keeper(recipe: Recipe, folder: RunFolder) -> Keeper:
    return Keeper(folder, validates=recipe.data.validation_size != 0)


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
    callbacks.append(LiveReport(folder))
    decay = stages[number].ema
    if decay is not None:
        callbacks.append(MovingAverage(decay, warm_up=True))
    return callbacks


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's announcements and its advice about workers off the screen."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in ("pytorch_lightning", "lightning_fabric"):
                warnings.filterwarnings("ignore", module=module)
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*find_unused_parameters=True.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
