"""``rnode-dyn sweep``: a recipe's runs over a grid of values and seeds, compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnode_dyn.cli.completion import complete_override
from rnode_dyn.cli.options import AsJson, Overrides, RecipeName, home_expanded
from rnode_dyn.cli.printing import announce, errors, note, print_json

if TYPE_CHECKING:
    from rnode_dyn.running.sweep import SweepResult


def sweep_command(
    recipe_name: RecipeName,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=VALUE,VALUE",
            help="Values of a key, each of them run; several keys: every combination.",
            autocompletion=complete_override,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="How many seeds, from the recipe's own on.")
    ] = 1,
    spaces: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="KEY=LOW..HIGH",
            help="A range or choices, from which Optuna chooses for each of --trials runs.",
            autocompletion=complete_override,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="How many runs a search has in all.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            callback=home_expanded,
            help="Folder of the runs; default: runs/NAME-sweep or -search.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe over a grid of values and seeds, and compare; again: go on."""
    _check_one_way(grid, seeds, spaces, trials)
    if spaces and trials:
        swept = _search(recipe_name, spaces, trials, overrides or [], output)
    else:
        swept = _sweep(recipe_name, grid or [], seeds, overrides or [], output)
    if as_json:
        print_json(_figures(swept))
    else:
        _show(swept)
    if any(run.failed for run in swept.runs):
        raise typer.Exit(1)


def _check_one_way(
    grid: list[str] | None, seeds: int, spaces: list[str] | None, trials: int | None
) -> None:
    if bool(spaces) != bool(trials):
        raise typer.BadParameter("a search takes both --search KEY=LOW..HIGH and --trials N")
    if spaces and (grid or seeds > 1):
        raise typer.BadParameter("--search chooses itself what runs: drop --grid and --seeds")
    if not spaces and not grid and seeds == 1:
        raise typer.BadParameter(
            "say what to sweep: --grid KEY=VALUE,VALUE or --seeds N, or --search and --trials"
        )


def _sweep(
    name: str, grid: list[str], seeds: int, overrides: list[str], output: Path | None
) -> "SweepResult":
    from rnode_dyn.runs.grid import members

    asked = members(name, grid, seeds, overrides)
    announce(asked[0].recipe)
    note(f"{len(asked)} runs")
    from rnode_dyn.running.sweep import sweep

    return sweep(name, grid, seeds, overrides=overrides, output=output, console=errors())


def _search(
    name: str, spaces: list[str], trials: int, overrides: list[str], output: Path | None
) -> "SweepResult":
    from rnode_dyn.runs.space import check_spaces, parse_space

    announce(check_spaces(name, [parse_space(text) for text in spaces], overrides))
    from rnode_dyn.running.search import search

    return search(name, spaces, trials, overrides=overrides, output=output, console=errors())


def _show(swept: "SweepResult") -> None:
    from rnode_dyn.report.compare import groups_table
    from rnode_dyn.report.groups import groups_of

    typer.echo(groups_table(groups_of(swept.records)))
    note(*(f"failed: {run.folder.path}: {run.failed}" for run in swept.runs if run.failed))
    note(f"runs: {swept.folder}", *([] if swept.report is None else [f"report: {swept.report}"]))


def _figures(swept: "SweepResult") -> dict[str, Any]:
    runs = zip(swept.runs, swept.records, strict=True)
    return {
        "folder": str(swept.folder),
        "report": None if swept.report is None else str(swept.report),
        "runs": [
            {
                "run": str(one.folder.path),
                "set": list(one.member.overrides),
                "kept": one.kept,
                "failed": one.failed,
                "summary": record.summary,
            }
            for one, record in runs
        ],
    }
