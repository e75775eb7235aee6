"""The command ``rnode-dyn``: parse, call, print."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.splits import Event, Splits
from rnode_dyn.flows.divergence import ExactDivergence
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.recipe.build import build_model, describe_event, governed_blocks, load_splits
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.load import list_recipes, load_recipe
from rnode_dyn.recipe.overrides import Override, parse_override
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.architecture import architecture_tree, describe_model
from rnode_dyn.report.comparable import differences
from rnode_dyn.report.cost import training_cost
from rnode_dyn.report.cost_text import Rate, cost_figures, cost_notes, cost_table
from rnode_dyn.report.curves import Against, curves_png, has_curve
from rnode_dyn.report.epoch import train_size
from rnode_dyn.report.html import write_report
from rnode_dyn.report.pictures import shows_as_image
from rnode_dyn.report.reach import reach_figures, reach_table
from rnode_dyn.report.runs import Run, labels, read_run
from rnode_dyn.report.sampling import Drawing, Panels, Strip, Vectors
from rnode_dyn.report.stages import likelihood_batch_size, stage_figures, stage_lines
from rnode_dyn.report.table import run_figures, runs_table
from rnode_dyn.training.bench import bench
from rnode_dyn.training.bench_text import bench_table
from rnode_dyn.training.evaluate import evaluate, first_of
from rnode_dyn.training.evaluation_text import evaluation_text
from rnode_dyn.training.exact import TooManyDimensionsError
from rnode_dyn.training.folder import RunError, RunFolder
from rnode_dyn.training.measure import device_for, measure_speed
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
CheckpointName = Annotated[
    str | None,
    typer.Option(
        "--checkpoint", metavar="NAME", help="best, last, or stage-0: after the first stage."
    ),
]
SplitName = Literal["train", "validation", "test"]

Command = TypeVar("Command", bound=Callable[..., None])


def guarded(command: Command) -> Command:
    """Turn what a user can get wrong into one message and an exit status, without a traceback."""

    @wraps(command)
    def run_guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (RecipeError, DataError, RunError, TooManyDimensionsError) as error:
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
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Score the split's first samples only.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Take the trace itself, not an estimate of it.")
    ] = False,
    bin_centre: Annotated[
        bool,
        typer.Option("--bin-centre/--no-bin-centre", help="Score the bins' centres as well."),
    ] = True,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Measure otherwise: by a key of data or eval.",
        ),
    ] = None,
    checkpoint: CheckpointName = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a trained flow on held-out data, and say how it was measured."""
    for override in map(parse_override, overrides or ()):
        _check_measures(override)
    folder = RunFolder(run_path)
    recipe, model = folder.load(checkpoint, overrides or ())
    splits = load_splits(recipe)
    if not bin_centre and splits.event.levels is None:
        raise typer.BadParameter(
            "--no-bin-centre is for pixels, and these data have no bins: leave it out"
        )
    samples = getattr(splits, split)
    if limit is not None and limit > len(samples):
        raise typer.BadParameter(
            f"--limit is {limit}, and the {split} split has {len(samples)} samples: leave it out"
        )
    evaluation = evaluate(
        model,
        first_of(_data_module(recipe, splits).eval_loader(samples), limit or len(samples)),
        splits.event,
        seed,
        divergence=ExactDivergence() if exact else None,
        split=split,
        split_samples=len(samples),
        bin_centre=bin_centre,
    )
    if as_json:
        scored = folder.checkpoint(checkpoint).stem
        _print_json({"checkpoint": scored, **evaluation.as_dict()})
    else:
        _out().print(evaluation_text(evaluation))


def _check_measures(override: Override) -> None:
    """Refuse what a flow that is trained already has no more use for."""
    if override.keys[0] != "data" and "eval" not in override.keys:
        raise typer.BadParameter(
            f"{override.source} says nothing about measuring a trained flow: write a key of "
            "[data], [solver.eval] or [divergence.eval], or train again with it"
        )


def _data_module(recipe: Recipe, splits: Splits) -> FlowDataModule:
    data = recipe.data
    return FlowDataModule(
        splits,
        batch_size=data.batch_size,
        eval_batch_size=data.eval_batch_size,
        workers=data.workers,
        seed=recipe.seed,
    )


@app.command("sample")
@guarded
def sample_command(
    run_path: RunPath,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", min=1, help="How many samples: 64, or 8 in a strip."),
    ] = None,
    temperatures: Annotated[
        list[float] | None,
        typer.Option(
            "--temperature",
            help="Below 1: more typical samples. Given several times: a panel for each.",
        ),
    ] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="Show the samples on their way from noise to image.")
    ] = False,
    checkpoint: CheckpointName = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", help="File; default: in the run's samples folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw samples: a picture of images, or a .npy file of vectors."""
    for temperature in temperatures or ():
        if not 0 < temperature < math.inf:
            raise typer.BadParameter(f"--temperature is {temperature}: write a positive number")
    folder = RunFolder(run_path)
    recipe, model = folder.load(checkpoint)
    event = describe_event(recipe)
    drawing = _drawing(recipe, event, count, tuple(temperatures or ()), strip)
    path = output or folder.samples / drawing.file_name
    if path.suffix.lower() not in drawing.suffixes:
        raise typer.BadParameter(f"--output is {path}: its name must end in {drawing.suffixes[0]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    _note(*drawing.draw(recipe, model, event, seed, path))
    if as_json:
        _print_json({"file": str(path), **asdict(drawing), "seed": seed})
    else:
        _out().print(f"{drawing.count} samples: {path}", soft_wrap=True)


def _drawing(
    recipe: Recipe,
    event: Event,
    count: int | None,
    temperatures: tuple[float, ...],
    strip: bool,
) -> Drawing:
    """Return what suits the samples: panels, where nothing else is asked, at the recipe's own."""
    image = shows_as_image(event)
    if strip and not image:
        raise typer.BadParameter(
            "--strip shows grey or coloured images, and this flow's samples are none"
        )
    if image and not strip:
        return Panels(count or 64, temperatures or recipe.samples.temperatures)
    if len(temperatures) > 1:
        what = "a strip" if strip else "a file of vectors"
        raise typer.BadParameter(f"{what} has one --temperature: give the others to commands apart")
    kind, usual = (Strip, 8) if strip else (Vectors, 64)
    return kind(count or usual, temperatures or (1.0,))


@app.command("report")
@guarded
def report_command(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder of curves.png; default: the run's, or report."),
    ] = None,
    against: Annotated[
        Against, typer.Option("--x", help="What the curves are drawn against.")
    ] = "seconds",
    as_json: AsJson = False,
) -> None:
    """Compare runs: a table in Markdown, curves, and a page for each in its folder."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise typer.BadParameter("a RUN is given twice: give each once")
    runs = [read_run(RunFolder(path)) for path in paths]
    if output is not None and not any(has_curve(run, against) for run in runs):
        raise typer.BadParameter(
            f"--output is the folder of curves.png, and no RUN has figures against {against}: "
            "leave it out"
        )
    pages = [write_report(run.folder) for run in runs]
    curves = _write_curves(runs, against, output)
    if as_json:
        _print_json(_report_figures(runs, pages, curves))
        return
    typer.echo(_report_text(runs))
    _note(*(f"written: {path}" for path in (*pages, curves) if path is not None))


def _report_figures(runs: list[Run], pages: list[Path], curves: Path | None) -> dict[str, Any]:
    pairs = zip(runs, pages, strict=True)
    return {
        "runs": [{**run_figures(run), "report": str(page)} for run, page in pairs],
        "reached": reach_figures(runs) if len(runs) > 1 else None,
        "differences": differences(runs),
        "curves": None if curves is None else str(curves),
    }


def _report_text(runs: list[Run]) -> str:
    """Return the tables, and with them what keeps their figures from being compared."""
    reached = reach_table(runs) if len(runs) > 1 else None
    notes = "\n".join(f"- {line}" for line in differences(runs))
    return "\n\n".join(part for part in (runs_table(runs), reached, notes) if part)


def _write_curves(runs: list[Run], against: Against, output: Path | None) -> Path | None:
    """Draw the runs that have figures, and say which have none."""
    named = zip(runs, labels(runs), strict=True)
    without = [name for run, name in named if not has_curve(run, against)]
    if without:
        _note(f"no curve, since metrics.csv has nothing against {against}: {', '.join(without)}")
    if len(without) == len(runs):
        return None
    folder = output or (runs[0].folder.path if len(runs) == 1 else Path("report"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "curves.png"
    path.write_bytes(curves_png(runs, against))
    return path


def _note(*lines: str) -> None:
    for line in lines:
        _errors().print(line, markup=False, highlight=False, soft_wrap=True)


@app.command("show")
@guarded
def show_command(
    recipe_name: RecipeName,
    overrides: Overrides = None,
    flops: Annotated[
        float | None,
        typer.Option("--flops", metavar="F", help="Operations a second, for hours per epoch."),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time some training steps here instead.")
    ] = False,
    evaluations: Annotated[
        int | None,
        typer.Option("--evaluations", min=1, help="In a block, where steps are adaptive."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the model of a recipe, and what training it costs."""
    recipe = load_recipe(recipe_name, overrides or ())
    event = describe_event(recipe)
    model = build_model(recipe, event)
    governed = governed_blocks(recipe, model)
    rate = _rate(recipe, model, event, flops, measure)
    cost = training_cost(model, likelihood_batch_size(recipe), evaluations, governed)
    if evaluations is not None and not cost.assumed:
        raise typer.BadParameter(
            "--evaluations is for steps that the training chooses, and all blocks take fixed "
            "ones: leave it out"
        )
    figures, samples = describe_model(model, governed), train_size(recipe.data)
    stages = stage_figures(recipe, model, cost)
    if as_json:
        costs = cost_figures(cost, samples, rate)
        named = {"name": recipe.name, "title": recipe.title}
        _print_json({**named, **figures, **costs, "stages": stages})
        return
    _out().print(architecture_tree(recipe.title or recipe.name, model, governed))
    _out().print(
        f"{figures['continuous_blocks']} continuous blocks in {figures['scales']} scales; "
        f"{_evaluations(figures)} in a training pass",
        *stage_lines(recipe, stages),
        sep="\n",
        soft_wrap=True,
    )
    _out().print(
        "", cost_table(cost, samples, rate), "", *cost_notes(cost, samples, rate), sep="\n"
    )


def _rate(
    recipe: Recipe, model: MultiscaleFlow, event: Event, flops: float | None, measure: bool
) -> Rate | None:
    if measure and flops is not None:
        raise typer.BadParameter("--flops states what --measure finds out: drop one of them")
    if flops is not None:
        if not 0 < flops < math.inf:
            raise typer.BadParameter(f"--flops is {flops}: write a positive number, such as 1e13")
        return Rate(flops, "as --flops states")
    if not measure:
        return None
    model.to(device_for(recipe.train.accelerator))
    speed = measure_speed(model, event, likelihood_batch_size(recipe))
    return Rate(speed.flops_per_second, speed.in_words())


def _evaluations(figures: dict[str, Any]) -> str:
    count = figures["evaluations_per_forward"]
    return "as many evaluations as it takes" if count is None else f"{count} evaluations"


@app.command("bench")
@guarded
def bench_command(
    recipe_name: RecipeName,
    overrides: Overrides = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Samples in a step.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Times each step is timed.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Time training steps here: likelihood by every sensitivity, and flow matching."""
    recipe = load_recipe(recipe_name, overrides or ())
    timed = bench(recipe, batch_size or likelihood_batch_size(recipe), rounds)
    if as_json:
        _print_json({"name": recipe.name, **asdict(timed)})
        return
    _out().print(
        bench_table(timed),
        "",
        f"batch of {timed.batch_size:,}, {timed.precision}, {timed.device}; loss and gradient on "
        f"noise, medians of {timed.rounds} rounds in turns",
        sep="\n",
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


def _show_result(result: RunResult, as_json: bool) -> None:
    if as_json:
        _print_json({"run": str(result.folder), **result.summary})
        return
    hidden = ("versions", "seed", "protocol")
    _print_figures({k: v for k, v in result.summary.items() if k not in hidden})
    _out().print(f"run folder: {result.folder}", soft_wrap=True)


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
