"""``rnode-dyn run``: train a recipe's flow, or go on with a run."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnode_dyn.cli.completion import complete_recipe, complete_run
from rnode_dyn.cli.options import AsJson, Overrides
from rnode_dyn.cli.printing import announce, errors, out, print_figures, print_json

if TYPE_CHECKING:
    from rnode_dyn.running.runner import RunResult

_HIDDEN = ("versions", "seed", "protocol")


def run_command(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]", help="A recipe's file or name.", autocompletion=complete_recipe
        ),
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The run folder; default: runs/NAME-TIME.")
    ] = None,
    resume_from: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Go on with this run instead; --set may then say another end or rate.",
            autocompletion=complete_run,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a recipe's flow, measure it, and draw samples."""
    began = time.monotonic()
    if resume_from is not None:
        if recipe is not None or output is not None:
            raise typer.BadParameter(
                "--resume goes on with a run as its own recipe says: give no RECIPE or --output "
                "beside it"
            )
        result = _resume(resume_from, overrides or [], began)
    elif recipe is None:
        raise typer.BadParameter("say which RECIPE to run, or --resume RUN")
    else:
        result = _run(recipe, overrides or [], output, began)
    _show(result, as_json)


def _run(name: str, overrides: list[str], output: Path | None, began: float) -> "RunResult":
    from rnode_dyn.recipe.load import load_recipe

    recipe = load_recipe(name, overrides)
    announce(recipe)
    from rnode_dyn.running.runner import run

    return run(recipe, output, console=errors(), began=began, phases=True)


def _resume(path: Path, overrides: list[str], began: float) -> "RunResult":
    from rnode_dyn.runs.find import find_run
    from rnode_dyn.runs.recipe_of import recipe_of

    folder = find_run(path)
    announce(recipe_of(folder), folder)
    from rnode_dyn.running.runner import resume

    return resume(folder.path, errors(), overrides, began, phases=True)


def _show(result: "RunResult", as_json: bool) -> None:
    if as_json:
        print_json({"run": str(result.folder), **result.summary})
        return
    print_figures({k: v for k, v in result.summary.items() if k not in _HIDDEN})
    out().print(f"run folder: {result.folder}", soft_wrap=True)
