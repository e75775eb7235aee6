"""The stages of a training, one after another: each a fit of the same flow."""

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
import torch

from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.splits import Splits
from rnode_dyn.fields.compiled import compiled_calls, compiled_products
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.schema import Recipe, StageRecipe
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.history import RunLogger
from rnode_dyn.runs.past import Past
from rnode_dyn.runs.weights import load_flow
from rnode_dyn.training.loop.keeper import Keeper
from rnode_dyn.training.loop.lost import naming_lost_processes
from rnode_dyn.training.loop.module import FlowTraining
from rnode_dyn.training.loop.optimizers import optimizer_settings
from rnode_dyn.training.loop.trainer import quiet_lightning
from rnode_dyn.training.objectives.base import Objective
from rnode_dyn.training.objectives.flow_matching import FlowMatching
from rnode_dyn.training.objectives.likelihood import Likelihood
from rnode_dyn.training.objectives.reflow import Reflow


class Trained(NamedTuple):
    """What training took, in all, and where.

    Attributes:
        past: Steps and seconds.
        device: Where it was.
        skipped: Steps that were not finite and left out; of a run that went on, those of the
            stages from where it did.
        most_bits: Bits/dim above which the trained flow has diverged.
        precision: The floating-point precision that Lightning computed in.
        before_s: Seconds of training and validation before the run was gone on with; 0 for one
            that was not.
    """

    past: Past
    device: torch.device
    skipped: int
    most_bits: float
    precision: str
    before_s: float = 0.0


def train_stages(
    recipe: Recipe,
    model: MultiscaleFlow,
    splits: Splits,
    folder: RunFolder,
    trainers: list[pl.Trainer],
    resume: bool,
) -> Trained:
    """Train a flow through the recipe's stages.

    Args:
        recipe: The recipe.
        model: Its flow, trained in place.
        splits: Its data.
        folder: The run's folder.
        trainers: A trainer for each stage, all with the same :class:`RunLogger`.
        resume: Go on from the folder's last checkpoint.
    """
    first = _stage_reached(folder) if resume else 0
    stages = list(zip(recipe.train.stages, trainers, strict=True))
    past, skipped, most_bits, before_s = Past(stage=first), 0, math.inf, 0.0
    for number in range(first, len(stages)):
        stage, trainer = stages[number]
        module = FlowTraining(
            model,
            splits.event,
            build_objective(stage, _teacher(folder, stage, number)),
            optimizer_settings(recipe, stage),
            past,
            recipe.train.on_nonfinite,
            recipe.given_micro_batch(stage),
        )
        if number > first:
            _keeper(trainer).follow(_keeper(trainers[number - 1]))
        data = data_module(recipe, splits, stage, number)
        with quiet_lightning(), naming_lost_processes(trainer), _compiled(recipe, stage, model):
            _fit(trainer, module, data, folder, resume and number == first)
        if number == first:
            before_s = module.past.wall_clock_s
        if number + 1 < len(stages):
            trainer.save_checkpoint(folder.stage_checkpoint(number), weights_only=True)
        past = Past(
            number + 1,
            module.steps,
            module.training_clock.seconds,
            module.wall_clock.seconds,
        )
        skipped += module.watch.skipped
        most_bits = module.watch.most_bits_after(module.updates)
    last = trainers[-1]
    precision = str(last.precision_plugin.precision)
    device = last.strategy.root_device
    return Trained(past, device, skipped, most_bits, precision, before_s)


def build_objective(stage: StageRecipe, teacher: MultiscaleFlow | None = None) -> Objective:
    """Build what a stage minimises.

    Args:
        stage: The stage.
        teacher: The flow whose pairs are matched, where that is the stage's coupling.

    Example:
        >>> from rnode_dyn.recipe.schema import StageRecipe
        >>> build_objective(StageRecipe(objective="flow-matching"))
        FlowMatching(coupling='independent', times='stratified', pace=1.0, weighting='even',
        targets='drawn')
    """
    if stage.objective == "likelihood":
        return Likelihood()
    times, pace = stage.times or "stratified", stage.pace or 1.0
    if teacher is not None:
        return Reflow(times=times, pace=pace, teacher=teacher)
    return FlowMatching(
        stage.coupling or "independent",  # type: ignore[arg-type]
        times,
        pace,
        weighting=stage.weighting or "even",
        targets=stage.targets or "drawn",
    )


def _teacher(folder: RunFolder, stage: StageRecipe, number: int) -> MultiscaleFlow | None:
    """Return the flow as the stage before has left it, where its pairs are matched."""
    if stage.coupling != "reflow":
        return None
    return load_flow(folder, folder.stage_checkpoint(number - 1).stem)[1]


def data_module(
    recipe: Recipe, splits: Splits, stage: StageRecipe | None = None, number: int = 0
) -> FlowDataModule:
    """Return the recipe's data as a stage takes them; each stage shuffles in an order of its own.

    Args:
        recipe: The recipe.
        splits: Its data.
        stage: The stage; left out, the recipe's own batches.
        number: Number of the stage.
    """
    data = recipe.data
    own_size = None if stage is None else stage.batch_size
    return FlowDataModule(
        splits,
        batch_size=own_size or data.batch_size,
        eval_batch_size=data.eval_batch_size or data.batch_size,
        flips=data.flips,
        workers=data.workers,
        seed=recipe.seed + number,
    )


def _compiled(
    recipe: Recipe, stage: StageRecipe, model: MultiscaleFlow
) -> AbstractContextManager[None]:
    """What a stage evaluates of the fields, compiled where the recipe asks for it."""
    if not recipe.train.compile:
        return nullcontext()
    fields = [block.field for block in model.blocks]
    return compiled_products(fields) if stage.objective == "likelihood" else compiled_calls(fields)


def _stage_reached(folder: RunFolder) -> int:
    return read_checkpoint(folder.last_checkpoint)["rnode_dyn"]["stage"]


def _fit(
    trainer: pl.Trainer,
    module: FlowTraining,
    data: FlowDataModule,
    folder: RunFolder,
    resume: bool,
) -> None:
    """Run one stage, and keep what a limit cut off between two validations."""
    logger = trainer.logger
    assert isinstance(logger, RunLogger)  # make_trainer put it there
    if resume:
        logger.restore()
    logger.follow(module)
    checkpoint = folder.last_checkpoint if resume else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning turns an interrupt into an exit of its own.
        raise KeyboardInterrupt from None
    if checkpoint is not None:
        _take_the_average(module, trainer, checkpoint)
    if not len(data.splits.validation):
        _keeper(trainer).keep_the_last(trainer)
    elif module.validated_at != trainer.global_step:
        scores = trainer.validate(module, datamodule=data, verbose=False)[0]
        _keeper(trainer).keep_the_end(trainer, scores["validation/bits_per_dim"])
    logger.save()


def _take_the_average(module: FlowTraining, trainer: pl.Trainer, checkpoint: Path) -> None:
    """End with the averaged weights also where the checkpoint was a stage's last.

    Lightning then has no step to take, and leaves out what it does at the end of training.
    """
    there = read_checkpoint(checkpoint)
    if there["global_step"] == trainer.global_step:
        module.load_state_dict(there["state_dict"])


def _keeper(trainer: pl.Trainer) -> Keeper:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next(c for c in callbacks if isinstance(c, Keeper))  # make_trainer put it there
