"""Running a recipe from data to summary."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from rich.console import Console

from rnode_dyn._notebook import shown_by
from rnode_dyn.data.splits import Splits
from rnode_dyn.evaluation.evaluate import Evaluation, evaluate
from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.threads import torch_threads
from rnode_dyn.recipe.build import (
    as_taken,
    build_model,
    load_splits,
    standardize_by,
)
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.load import load_recipe, recipe_to_toml
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.html import write_report
from rnode_dyn.report.pictures import draw_pictures
from rnode_dyn.running.accept import accept_changes
from rnode_dyn.running.fingerprint import fingerprint
from rnode_dyn.running.plugged import Plugged, plug_in
from rnode_dyn.running.summary import summarize, versions
from rnode_dyn.running.trainers import last_of, pieces_taken, stage_trainers
from rnode_dyn.running.voice import Voice, is_first
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.errors import SaveError
from rnode_dyn.runs.find import RUNS, find_run
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.lock import owned
from rnode_dyn.runs.recipe_of import recipe_of
from rnode_dyn.runs.take_up import end, take_up
from rnode_dyn.runs.weights import as_begun, load_flow
from rnode_dyn.training.governor.governor import StepGovernor
from rnode_dyn.training.loop.errors import DivergedError, LostProcessError
from rnode_dyn.training.loop.optimizers import check_optimizer
from rnode_dyn.training.loop.precision import tell_of_precision
from rnode_dyn.training.loop.stages import Trained, data_module, train_stages
from rnode_dyn.training.loop.stop import Interrupted, Stop, stoppable

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

    _repr_html_ = shown_by("run_html")


def run(
    recipe: Recipe,
    output: str | Path | None = None,
    *,
    resume: bool = False,
    console: Console | None = None,
    callbacks: Sequence[pl.Callback] = (),
    logger: Logger | Sequence[Logger] | None = None,
    began: float | None = None,
    phases: bool = False,
) -> RunResult:
    """Train a recipe's flow, measure it on the test split, and draw from it.

    Args:
        recipe: What to run.
        output: The run folder; left out, a new one under ``runs``.
        resume: Go on from ``output``'s last checkpoint.
        console: Where progress is shown; nothing is, when left out.
        callbacks: Lightning's callbacks, of all stages, beside those of ``train.callbacks``.
        logger: One of Lightning's loggers or several, beside that of ``[train.logger]``: each is
            told what ``metrics.csv`` is, at the same steps, and the recipe as its parameters.
        began: The ``time.monotonic()`` from which ``wall_clock_s`` counts; left out, that of this
            call.
        phases: Whether the console is told when training, measuring and drawing begin.

    Returns:
        The run folder and its figures.

    Raises:
        TypeError: if what is given is no callback, or no logger.
        RecipeError: if model and data do not fit, the data are not there, a logger is not
            installed, or a class cannot be imported.
        RunError: if the folder cannot be used.
        SolverError: if a solve breaks down; the last checkpoint is kept.
        DivergedError: if the training's numbers are no longer sound, likewise.
        LostProcessError: if another of several processes has ended, likewise.
        SaveError: if something could not be written; what was saved before is whole.
        KeyboardInterrupt: if the run was interrupted, by SIGINT, SIGTERM or SIGUSR1; a training
            is saved first, in the midst of an epoch if need be.
    """
    began = time.monotonic() if began is None else began
    with torch_threads(recipe.train.given_threads):
        plugged = plug_in(recipe, callbacks, logger)
        return _run(recipe, output, resume, Voice(console, phases), plugged, began)


def _run(
    recipe: Recipe,
    output: str | Path | None,
    resume: bool,
    voice: Voice,
    plugged: Plugged,
    began: float,
) -> RunResult:
    folder = RunFolder(_folder_of_all(Path(output) if output else _new_folder(recipe)))
    with stoppable(voice.tell) as stop:
        try:
            return _train(recipe, folder, resume, voice, stop, plugged, began)
        except (KeyboardInterrupt, SystemExit):
            if stop.asked_by is None:
                raise
            raise Interrupted(stop.asked_by, folder.path) from None
        except (SolverError, SaveError, DivergedError, LostProcessError) as error:
            if isinstance(error, DivergedError) and not is_first():
                raise SystemExit(0) from None  # all have found the same; the first one tells
            if folder.last_checkpoint.is_file():
                error.add_note(f"the last sound weights are in {folder.last_checkpoint}")
                error.add_note(f"to go on from them: rnode-dyn run --resume {folder.path}")
            raise
        finally:
            os.environ.pop(_RUN_FOLDER, None)


def _train(
    recipe: Recipe,
    folder: RunFolder,
    resume: bool,
    voice: Voice,
    stop: Stop,
    plugged: Plugged,
    began: float,
) -> RunResult:
    splits, model = _prepare(recipe, folder if resume else None)
    about = {
        "recipe": recipe_to_toml(recipe),
        "data": fingerprint(splits),
        "versions": versions(),
    }
    check_optimizer(recipe, model.parameters())
    trainers = stage_trainers(recipe, model, splits, folder, stop, about, plugged, voice)
    if not resume and is_first():
        folder.check_is_free()
    with owned(folder) if is_first() else nullcontext():
        resume = _begin(recipe, folder, resume, about, voice.tell)
        plugged.begin(recipe, folder)
        tell_of_precision(recipe, trainers, voice.tell)
        voice.announce(f"training in {folder.path}")
        trained = train_stages(recipe, model, splits, folder, trainers, resume)
        if not is_first():
            # The command was started again for this process; the first one tells how it ended.
            raise SystemExit(0)
        return _finish(recipe, splits, folder, trained, trainers, voice, began)


def _begin(
    recipe: Recipe,
    folder: RunFolder,
    resume: bool,
    about: dict[str, Any],
    tell: Callable[[str], None],
) -> bool:
    """Make the run folder, or take it up; return whether there is a checkpoint to go on from."""
    if not is_first():
        return resume and folder.last_checkpoint.is_file()
    if not resume:
        folder.create(recipe)
        return False
    goes_on = take_up(folder, tell)
    if goes_on:
        checkpoint = read_checkpoint(folder.last_checkpoint)
        changes = accept_changes(checkpoint, recipe, about, folder, tell)
    else:
        changes = []
        tell(f"{folder.path} has nothing saved yet, and begins anew")
    if changes or not _is_written(recipe, folder):
        folder.change_recipe(recipe, changes)
    return goes_on


def _is_written(recipe: Recipe, folder: RunFolder) -> bool:
    try:
        return load_recipe(folder.recipe) == recipe
    except RecipeError:
        return False


def _prepare(recipe: Recipe, begun: RunFolder | None) -> tuple[Splits, MultiscaleFlow]:
    """Load the data and build the model: all that can be wrong with a recipe shows here."""
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    splits = load_splits(recipe)
    if begun is not None and recipe.data.standardize:
        recipe = as_begun(begun, recipe)
    model = build_model(recipe, splits.event)
    standardize_by(splits, model)
    return as_taken(splits, model), model


def _folder_of_all(path: Path) -> Path:
    """Return the first process's folder: Lightning starts the others with its environment."""
    return Path(os.environ.setdefault(_RUN_FOLDER, str(path)))


def resume(
    folder: str | Path,
    console: Console | None = None,
    overrides: Iterable[str] = (),
    began: float | None = None,
    phases: bool = False,
) -> RunResult:
    """Go on with an interrupted run, to the end that its recipe says.

    Args:
        folder: The run folder, or a recipe's name: its newest run under ``runs``.
        console: Where progress is shown; nothing is, when left out.
        overrides: Keys of the recipe that are to be otherwise from here on, such as
            ``train.max_steps=9000``. They are written into the run's recipe, with their history.
        began: As :func:`run` takes it.
        phases: Likewise.

    Raises:
        RunError: if it would be another training, or the folder cannot be used.
    """
    there = find_run(folder)
    recipe = recipe_of(there, overrides, tell=Voice(console).tell)
    return run(recipe, there.path, resume=True, console=console, began=began, phases=phases)


def _new_folder(recipe: Recipe) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return RUNS / f"{recipe.name}-{stamp}"


def _finish(
    recipe: Recipe,
    splits: Splits,
    folder: RunFolder,
    trained: Trained,
    trainers: list[pl.Trainer],
    voice: Voice,
    began: float,
) -> RunResult:
    """Measure the best weights on the test split, and draw from them."""
    end(folder)
    _, model = load_flow(folder)
    model.to(trained.device)
    lay_out(model, trained.device)
    batches = data_module(recipe, splits).test_dataloader()
    voice.announce(f"measuring on {len(splits.test):,} test samples")
    evaluation = evaluate(
        model,
        batches,
        splits.event,
        recipe.seed,
        split="test",
        split_samples=len(splits.test),
    )
    _check_sound(evaluation, trained)
    voice.announce("drawing samples and the report")
    draw_pictures(recipe, model, splits, folder.samples)
    summary = summarize(
        evaluation,
        model,
        train_steps=trained.past.steps,
        wall_clock_s=trained.before_s + time.monotonic() - began,
        training_s=trained.past.training_s,
        seed=recipe.seed,
        device=trained.device,
        precision=trained.precision,
        skipped_steps=trained.skipped,
        threads=torch.get_num_threads(),
        pieces=pieces_taken(recipe, trainers),
        governor=last_of(StepGovernor, trainers),
    )
    folder.write_summary(summary)
    write_report(folder)
    return RunResult(folder.path, summary)


def _check_sound(evaluation: Evaluation, trained: Trained) -> None:
    """Raise where what was trained is far worse than noise, which without validation shows here."""
    bits = evaluation.bits_per_dim
    if not bits <= trained.most_bits:
        raise DivergedError(
            f"the trained flow scores {bits:,.4g} bits/dim on the test split, where "
            f"{trained.most_bits:,.4g} would be too many: it has diverged.",
            step=trained.past.steps,
        )
