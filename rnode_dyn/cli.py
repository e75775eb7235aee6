"""The command ``rnode-dyn``: parse, call, print."""

import json
import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.recipe.build import build_model, describe_event, load_splits
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.load import list_recipes, load_recipe
from rnode_dyn.report.architecture import architecture_tree, describe_model
from rnode_dyn.report.grids import draw_samples, save_grid
from rnode_dyn.report.pictures import shows_as_image
from rnode_dyn.training.evaluate import Evaluation, evaluate
from rnode_dyn.training.folder import RunError, RunFolder
from rnode_dyn.training.runner import RunResult, resume, run

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Regularized neural ODEs: continuous normalizing flows that train fast.",
)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.epochs=5."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's file or name.")]
_MAX_SEED = 2**63 - 1
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=_MAX_SEED, help="Seed of the random numbers.")
]
SplitName = Literal["train", "validation", "test"]

Command = TypeVar("Command", bound=Callable[..., None])


def guarded(command: Command) -> Command:
    """Turn what a user can get wrong into one message and an exit status, without a traceback."""

    @wraps(command)
    def run_guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (RecipeError, DataError, RunError) as error:
            _say(error, exit_code=2)
        except OSError as error:
            _say(error, exit_code=2)
        except SolverError as error:
            _say(error, exit_code=1)
        except KeyboardInterrupt:
            _errors().print("interrupted", style="yellow")
            raise typer.Exit(130) from None

    return run_guarded  # type: ignore[return-value]


def _say(error: Exception, exit_code: int) -> None:
    notes = getattr(error, "__notes__", [])
    message = "\n".join([str(error), *notes])
    _errors().print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(exit_code) from None


def _out() -> Console:
    return Console()


def _errors() -> Console:
    """Progress and messages: apart from the answer, so that --json prints JSON alone."""
    return Console(stderr=True)


@app.command("run")
@guarded
def run_command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe's file or name.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The run folder; default: runs/NAME-TIME.")
    ] = None,
    resume_from: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with this run instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a recipe's flow, measure it, and draw samples."""
    if resume_from is not None:
        if recipe is not None or overrides or output is not None:
            raise typer.BadParameter(
                "--resume goes on with a run as its own recipe says: give no RECIPE, --set or "
                "--output beside it"
            )
        result = resume(resume_from, _errors())
    elif recipe is None:
        raise typer.BadParameter("say which RECIPE to run, or --resume RUN")
    else:
        result = run(load_recipe(recipe, overrides or ()), output, console=_errors())
    _show_result(result, as_json)


@app.command("evaluate")
@guarded
def evaluate_command(
    run_path: RunPath,
    split: Annotated[SplitName, typer.Option("--split", help="Which samples.")] = "test",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a trained flow on held-out data."""
    recipe, model = RunFolder(run_path).load()
    splits = load_splits(recipe)
    data = FlowDataModule(
        splits,
        batch_size=recipe.data.batch_size,
        eval_batch_size=recipe.data.eval_batch_size,
        seed=recipe.seed,
    )
    evaluation = evaluate(model, data.eval_loader(getattr(splits, split)), splits.event, seed)
    _show_evaluation(evaluation, model, as_json)


@app.command("sample")
@guarded
def sample_command(
    run_path: RunPath,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many samples.")] = 64,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Below 1: more typical samples.")
    ] = 1.0,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", help="File; default: in the run's samples folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw samples: a picture of images, or a .npy file of vectors."""
    if not 0 < temperature < math.inf:
        raise typer.BadParameter(f"--temperature is {temperature}: write a positive number")
    folder = RunFolder(run_path)
    recipe, model = folder.load()
    event = describe_event(recipe)
    samples = draw_samples(model, event, count, temperature, seed)
    path = output or folder.samples / _sample_name(event, count, temperature)
    suffixes = (".png", ".jpg", ".jpeg") if shows_as_image(event) else (".npy",)
    if path.suffix.lower() not in suffixes:
        raise typer.BadParameter(f"--output is {path}: its name must end in {suffixes[0]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if shows_as_image(event):
        save_grid(samples, path)
    else:
        np.save(path, samples.numpy())
    if as_json:
        _print_json({"file": str(path), "count": count, "temperature": temperature, "seed": seed})
    else:
        _out().print(f"{count} samples: {path}", soft_wrap=True)


@app.command("show")
@guarded
def show_command(
    recipe_name: RecipeName, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Show the model of a recipe: scales, blocks, shapes, parameters, evaluations."""
    recipe = load_recipe(recipe_name, overrides or ())
    model = build_model(recipe)
    figures = describe_model(model)
    if as_json:
        _print_json({"name": recipe.name, "title": recipe.title, **figures})
        return
    _out().print(architecture_tree(recipe.title or recipe.name, model))
    evaluations = figures["evaluations_per_forward"]
    _out().print(
        f"{figures['continuous_blocks']} continuous blocks in {figures['scales']} scales; "
        f"{'adaptive' if evaluations is None else evaluations} evaluations in a training pass"
    )


@app.command("recipes")
@guarded
def recipes_command(as_json: AsJson = False) -> None:
    """List the recipes that come with the package."""
    entries = list_recipes()
    if as_json:
        _print_json([{**entry._asdict(), "path": str(entry.path)} for entry in entries])
        return
    table = Table("recipe", "title", box=None, header_style="bold")
    for entry in entries:
        table.add_row(entry.name, entry.title)
    _out().print(table)


def _sample_name(event: Event, count: int, temperature: float) -> str:
    suffix = "png" if shows_as_image(event) else "npy"
    return f"samples-{count}-t{temperature:g}.{suffix}"


def _show_result(result: RunResult, as_json: bool) -> None:
    if as_json:
        _print_json({"run": str(result.folder), **result.summary})
        return
    hidden = ("versions", "seed")
    _print_figures({k: v for k, v in result.summary.items() if k not in hidden})
    _out().print(f"run folder: {result.folder}", soft_wrap=True)


def _show_evaluation(evaluation: Evaluation, model: MultiscaleFlow, as_json: bool) -> None:
    figures = evaluation.as_dict()
    if as_json:
        _print_json(figures)
        return
    figures.pop("blocks")
    _print_figures(figures)
    table = Table("block", "shape", "accepted", "rejected", "evaluations", box=None)
    for number, (station, stats) in enumerate(zip(model.walk(), evaluation.blocks, strict=True)):
        shape = "×".join(map(str, station.shape))
        table.add_row(*map(str, (number, shape, stats.accepted, stats.rejected, stats.nfe)))
    _out().print(table)


def _print_figures(figures: dict[str, Any]) -> None:
    table = Table(box=None, show_header=False)
    for name, value in figures.items():
        if value is not None:
            table.add_row(name.replace("_", " "), _number(value))
    _out().print(table)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def main() -> None:
    """Run the command."""
    app()
