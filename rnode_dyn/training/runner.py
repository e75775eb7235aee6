"""Running a recipe from data to summary."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.splits import Splits
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.recipe.build import build_model, load_splits
from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.pictures import draw_pictures
from rnode_dyn.training.display import TrainingDisplay
from rnode_dyn.training.evaluate import evaluate
from rnode_dyn.training.folder import RunError, RunFolder
from rnode_dyn.training.history import restore_metrics
from rnode_dyn.training.module import FlowTraining, OptimizerSettings
from rnode_dyn.training.sample_grids import SampleGrids
from rnode_dyn.training.step_seed import StepSeed
from rnode_dyn.training.summary import summarize

_LOG_EVERY = 10
_RUN_FOLDER = "_RNODE_DYN_RUN_FOLDER"


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: Where it lies.
        summary: Its figures, as in ``summary.json``.
    """

    folder: Path
    summary: dict[str, Any]


class _Trained(NamedTuple):
    """What training took, in all, and where."""

    steps: int
    seconds: float
    device: torch.device


def run(
    recipe: Recipe,
    output: str | Path | None = None,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> RunResult:
    """Train a recipe's flow, measure it on the test split, and draw from it.

    Args:
        recipe: What to run.
        output: The run folder; left out, a new one under ``runs``.
        resume: Go on from ``output``'s last checkpoint.
        console: Where progress is shown; nothing is, when left out.

    Returns:
        The run folder and its figures.

    Raises:
        RecipeError: if model and data do not fit, or the data are not there.
        RunError: if the folder cannot be used.
        SolverError: if a solve breaks down; the last checkpoint is kept.
        KeyboardInterrupt: if the training was interrupted; the last checkpoint is kept.
    """
    with _threads(recipe.train.threads):
        return _run(recipe, output, resume, Console(quiet=True) if console is None else console)


def _run(recipe: Recipe, output: str | Path | None, resume: bool, console: Console) -> RunResult:
    splits, model = _prepare(recipe)
    folder = RunFolder(_folder_of_all(Path(output) if output else _new_folder(recipe)))
    try:
        trainer = _trainer(recipe, folder, console if _is_first() else Console(quiet=True))
        if resume:
            folder.check_resumable()
        elif _is_first():
            folder.create(recipe)
        trained = _train(recipe, model, splits, folder, trainer, resume)
        if not _is_first():
            # The command was started again for this process; the first one tells how it ended.
            raise SystemExit(0)
        return _finish(recipe, splits, folder, trained)
    except SolverError as error:
        if folder.last_checkpoint.is_file():
            error.add_note(f"the last sound weights are in {folder.last_checkpoint}")
        raise
    finally:
        os.environ.pop(_RUN_FOLDER, None)


def _prepare(recipe: Recipe) -> tuple[Splits, MultiscaleFlow]:
    """Load the data and build the model: all that can be wrong with a recipe shows here."""
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    splits = load_splits(recipe)
    return splits, build_model(recipe, splits.event)


def _is_first() -> bool:
    """Whether this is the only process, or the first of several."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _folder_of_all(path: Path) -> Path:
    """Return the first process's folder: Lightning starts the others with its environment."""
    return Path(os.environ.setdefault(_RUN_FOLDER, str(path)))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads on the CPU, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resume(folder: str | Path, console: Console | None = None) -> RunResult:
    """Go on with an interrupted run, to the end that its recipe says."""
    path = Path(folder)
    if not RunFolder(path).recipe.is_file():
        raise RunError(f"{path} is no run folder: it has no recipe.toml.")
    return run(load_recipe(RunFolder(path).recipe), path, resume=True, console=console)


def _new_folder(recipe: Recipe) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{recipe.name}-{stamp}"


def _train(
    recipe: Recipe,
    model: MultiscaleFlow,
    splits: Splits,
    folder: RunFolder,
    trainer: pl.Trainer,
    resume: bool,
) -> _Trained:
    """Train, and keep what a limit cut off within an epoch."""
    train = recipe.train
    module = FlowTraining(
        model,
        splits.event,
        optimizer=OptimizerSettings(
            train.learning_rate, train.warmup_steps, train.schedule, train.weight_decay
        ),
    )
    with _quiet_lightning():
        logger = trainer.logger
        assert isinstance(logger, CSVLogger)  # _trainer put it there
        if resume and _is_first():
            restore_metrics(logger, folder)
        data = _data_module(recipe, splits)
        _fit(trainer, module, data, folder, resume)
        seconds = module.seconds
        _keep_the_end(trainer, module, data, folder)
        logger.save()
    return _Trained(trainer.global_step, seconds, trainer.strategy.root_device)


def _fit(
    trainer: pl.Trainer,
    module: FlowTraining,
    data: FlowDataModule,
    folder: RunFolder,
    resume: bool,
) -> None:
    checkpoint = folder.last_checkpoint if resume else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=False)
    except SystemExit:
        # Lightning turns an interrupt into an exit of its own.
        raise KeyboardInterrupt from None


def _keep_the_end(
    trainer: pl.Trainer, module: FlowTraining, data: FlowDataModule, folder: RunFolder
) -> None:
    """Save what a limit on steps or minutes cut off in the middle of an epoch.

    Lightning validates and saves at the ends of epochs only.
    """
    keeper = trainer.checkpoint_callback
    assert isinstance(keeper, ModelCheckpoint)  # _callbacks put it there
    if module.validated_at == trainer.global_step:
        return
    best = keeper.best_model_score
    bits = trainer.validate(module, datamodule=data, verbose=False)[0]["validation/bits_per_dim"]
    trainer.save_checkpoint(folder.last_checkpoint)
    if best is None or bits < float(best):
        trainer.save_checkpoint(folder.best_checkpoint)


def _data_module(recipe: Recipe, splits: Splits) -> FlowDataModule:
    data = recipe.data
    return FlowDataModule(
        splits,
        batch_size=data.batch_size,
        eval_batch_size=data.eval_batch_size,
        flips=data.flips,
        workers=data.workers,
        seed=recipe.seed,
    )


def _trainer(recipe: Recipe, folder: RunFolder, console: Console) -> pl.Trainer:
    """Make Lightning's trainer, which may not have the devices that the recipe asks for."""
    try:
        with _quiet_lightning():
            return _make_trainer(recipe, folder, console)
    except (MisconfigurationException, ValueError, ImportError) as error:
        raise RecipeError(Problem(f"recipe {recipe.name}", "train", str(error))) from error


def _make_trainer(recipe: Recipe, folder: RunFolder, console: Console) -> pl.Trainer:
    train = recipe.train
    limit = None if train.max_minutes is None else timedelta(minutes=train.max_minutes)
    return pl.Trainer(
        accelerator=train.accelerator,
        devices=train.devices,
        num_nodes=train.nodes,
        strategy=train.strategy,
        precision=train.precision,
        max_epochs=-1 if train.epochs is None else train.epochs,
        max_steps=-1 if train.max_steps is None else train.max_steps,
        max_time=limit,
        gradient_clip_val=train.clip,
        check_val_every_n_epoch=train.validate_every,
        num_sanity_val_steps=0,
        log_every_n_steps=_LOG_EVERY,
        logger=CSVLogger(folder.path, name="", version=""),
        callbacks=_callbacks(recipe, folder, console),
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _callbacks(recipe: Recipe, folder: RunFolder, console: Console) -> list[Callback]:
    minutes = recipe.train.max_minutes
    callbacks: list[Callback] = [
        TrainingDisplay(console, max_seconds=None if minutes is None else 60 * minutes),
        StepSeed(recipe.seed),
    ]
    if recipe.samples.every is not None:
        callbacks.append(SampleGrids(recipe, folder.samples))
    if recipe.train.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=recipe.train.ema))
    callbacks.append(
        ModelCheckpoint(
            folder.checkpoints,
            filename="best",
            monitor="validation/bits_per_dim",
            save_last=True,
            enable_version_counter=False,
        )
    )
    return callbacks


def _finish(
    recipe: Recipe,
    splits: Splits,
    folder: RunFolder,
    trained: _Trained,
) -> RunResult:
    """Measure the best weights on the test split, and draw from them."""
    _, model = folder.load()
    model.to(trained.device)
    batches = _data_module(recipe, splits).test_dataloader()
    evaluation = evaluate(model, batches, splits.event, recipe.seed)
    draw_pictures(recipe, model, splits, folder.samples)
    summary = summarize(
        evaluation, model, train_steps=trained.steps, wall_clock_s=trained.seconds, seed=recipe.seed
    )
    folder.write_summary(summary)
    return RunResult(folder.path, summary)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
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
