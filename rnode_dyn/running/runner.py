"""Running a recipe from data to summary."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from rnode_dyn.bench.threads import torch_threads
from rnode_dyn.data.splits import Splits
from rnode_dyn.evaluation.evaluate import evaluate
from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.recipe.build import build_model, load_splits
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.html import write_report
from rnode_dyn.report.pictures import draw_pictures
from rnode_dyn.running.summary import summarize
from rnode_dyn.runs.checkpoints import check_resumable
from rnode_dyn.runs.find import RUNS, find_run
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.history import RunLogger
from rnode_dyn.runs.weights import load_flow
from rnode_dyn.training.governor.build import build_governor
from rnode_dyn.training.governor.governor import StepGovernor
from rnode_dyn.training.loop.stages import Trained, data_module, train_stages
from rnode_dyn.training.loop.trainer import make_trainer

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
    with torch_threads(recipe.train.threads):
        return _run(recipe, output, resume, Console(quiet=True) if console is None else console)


def _run(recipe: Recipe, output: str | Path | None, resume: bool, console: Console) -> RunResult:
    splits, model = _prepare(recipe)
    folder = RunFolder(_folder_of_all(Path(output) if output else _new_folder(recipe)))
    try:
        trainers = _trainers(recipe, model, splits, folder, console)
        if resume:
            check_resumable(folder)
        elif _is_first():
            folder.create(recipe)
        trained = train_stages(recipe, model, splits, folder, trainers, resume)
        if not _is_first():
            # The command was started again for this process; the first one tells how it ended.
            raise SystemExit(0)
        return _finish(recipe, splits, folder, trained, _last_governor(trainers))
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


def _trainers(
    recipe: Recipe, model: MultiscaleFlow, splits: Splits, folder: RunFolder, console: Console
) -> list[pl.Trainer]:
    """One for each stage; before the first there is no telling which process this is."""
    logger, trainers = RunLogger(folder), []
    shown = console if _is_first() else Console(quiet=True)

    def tell(text: str) -> None:
        shown.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    for number, stage in enumerate(recipe.train.stages):
        extra = []
        if stage.objective == "likelihood":
            governor = build_governor(recipe, model, splits, stage.batch_size, tell)
            extra = [] if governor is None else [governor]
        trainers.append(make_trainer(recipe, number, folder, logger, shown, extra))
    return trainers


def _last_governor(trainers: list[pl.Trainer]) -> StepGovernor | None:
    callbacks = [callback for trainer in trainers for callback in trainer.callbacks]  # type: ignore[attr-defined]
    return next((c for c in reversed(callbacks) if isinstance(c, StepGovernor)), None)


def _is_first() -> bool:
    """Whether this is the only process, or the first of several."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _folder_of_all(path: Path) -> Path:
    """Return the first process's folder: Lightning starts the others with its environment."""
    return Path(os.environ.setdefault(_RUN_FOLDER, str(path)))


def resume(folder: str | Path, console: Console | None = None) -> RunResult:
    """Go on with an interrupted run, to the end that its recipe says."""
    there = find_run(folder)
    return run(load_recipe(there.recipe), there.path, resume=True, console=console)


def _new_folder(recipe: Recipe) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return RUNS / f"{recipe.name}-{stamp}"


def _finish(
    recipe: Recipe,
    splits: Splits,
    folder: RunFolder,
    trained: Trained,
    governor: StepGovernor | None,
) -> RunResult:
    """Measure the best weights on the test split, and draw from them."""
    _, model = load_flow(folder)
    model.to(trained.device)
    lay_out(model, trained.device)
    batches = data_module(recipe, splits).test_dataloader()
    evaluation = evaluate(
        model,
        batches,
        splits.event,
        recipe.seed,
        split="test",
        split_samples=len(splits.test),
    )
    draw_pictures(recipe, model, splits, folder.samples)
    summary = summarize(
        evaluation,
        model,
        train_steps=trained.past.steps,
        wall_clock_s=trained.past.wall_clock_s,
        training_s=trained.past.training_s,
        seed=recipe.seed,
        governor=governor,
        device=trained.device,
    )
    folder.write_summary(summary)
    write_report(folder)
    return RunResult(folder.path, summary)
