"""The trainers of a run, one a stage, with the callbacks that its recipe asks for."""

from collections.abc import Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl

from rnode_dyn.data.splits import Splits
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import governed_blocks
from rnode_dyn.recipe.schema import Recipe, StageRecipe
from rnode_dyn.running.plugged import Plugged
from rnode_dyn.running.voice import Voice
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.history import RunLogger
from rnode_dyn.training.governor.build import build_governor
from rnode_dyn.training.loop.piece_choice import PieceChoice
from rnode_dyn.training.loop.save_points import SavePoints
from rnode_dyn.training.loop.stop import Stop
from rnode_dyn.training.loop.trainer import make_trainer, processes_of
from rnode_dyn.training.loop.warm_up import WarmUpTeller, warm_up_key

C = TypeVar("C", bound=pl.Callback)


def stage_trainers(
    recipe: Recipe,
    model: MultiscaleFlow,
    splits: Splits,
    folder: RunFolder,
    stop: Stop,
    about: dict[str, Any],
    plugged: Plugged,
    voice: Voice,
) -> list[pl.Trainer]:
    """Return one for each stage; before the first there is no telling which process this is.

    Args:
        recipe: The recipe.
        model: Its flow.
        splits: Its data.
        folder: The run.
        stop: Whether the run has been asked to stop.
        about: What the checkpoints tell of the run.
        plugged: Callbacks and loggers from outside.
        voice: Where the run speaks.
    """
    logger, trainers = RunLogger(folder, plugged.loggers), []
    earlier: list[pl.Callback] = []
    for number, stage in enumerate(recipe.train.stages):
        own = _of_solves(recipe, stage, model, splits, voice)
        saves = _save_points(recipe, folder, stop, about, earlier)
        warm_up = WarmUpTeller(warm_up_key(recipe, number), voice.tell)
        extra = [*plugged.callbacks, *own, warm_up, saves]
        trainers.append(make_trainer(recipe, number, folder, logger, voice.shown, extra))
        earlier += own
    return trainers


def _of_solves(
    recipe: Recipe, stage: StageRecipe, model: MultiscaleFlow, splits: Splits, voice: Voice
) -> list[pl.Callback]:
    """What chooses how a stage's solves are made, where the recipe leaves that open."""
    if stage.objective != "likelihood":
        return []
    own: list[pl.Callback] = []
    if recipe.train.micro_batch == "auto":
        own.append(PieceChoice(recipe.batch_size(stage), governed_blocks(recipe, model)))
    # Of the whole step, so that however it is parted the same is looked at.
    parts = processes_of(recipe.train) * recipe.train.accumulate
    points = recipe.batch_size(stage) * parts
    governor = build_governor(recipe, model, splits, points, voice.tell)
    return own if governor is None else [*own, governor]


def _save_points(
    recipe: Recipe,
    folder: RunFolder,
    stop: Stop,
    about: dict[str, Any],
    earlier: Sequence[pl.Callback],
) -> SavePoints:
    return SavePoints(
        folder,
        every_steps=recipe.train.checkpoint_every_steps,
        every_minutes=recipe.train.checkpoint_every_minutes,
        stop=stop,
        about=about,
        earlier=earlier,
    )


def last_of(kind: type[C], trainers: Sequence[pl.Trainer]) -> C | None:
    """Return the last stage's callback of a kind, if any stage has one."""
    callbacks = [callback for trainer in trainers for callback in trainer.callbacks]  # type: ignore[attr-defined]
    return next((c for c in reversed(callbacks) if isinstance(c, kind)), None)


def pieces_taken(recipe: Recipe, trainers: Sequence[pl.Trainer]) -> dict[str, Any]:
    """Return in what pieces the flow was solved in training, and how they were differentiated."""
    choice = last_of(PieceChoice, trainers)
    if choice is None or choice.pieces is None:
        given = recipe.train.micro_batch
        return {"micro_batch": None if given == "auto" else given, "micro_batch_sensitivity": None}
    return {
        "micro_batch": choice.pieces.size,
        "micro_batch_sensitivity": choice.pieces.way,
    }
