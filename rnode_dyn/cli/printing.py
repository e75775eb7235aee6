"""What the commands print: the answer to one stream, progress and messages to the other."""

import json
import os
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from rnode_dyn.recipe.schema import Recipe
    from rnode_dyn.runs.folder import RunFolder


def out() -> Console:
    """Where the answer goes; what a recipe or a path says is text there, and never markup."""
    return Console(markup=False, emoji=False)


def errors() -> Console:
    """Where progress and messages go: apart from the answer, so that --json prints JSON alone."""
    return Console(stderr=True, markup=False, emoji=False)


def note(*lines: str) -> None:
    """Say what a person should know beside the answer."""
    for line in lines:
        errors().print(line, highlight=False, soft_wrap=True)


_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Where torchrun, Lightning and SLURM tell a process its number."""


def announce(recipe: "Recipe", run: "RunFolder | None" = None) -> None:
    """Say at once what the command is about, before what takes seconds is imported.

    Of several processes of a training the first says it.
    """
    if any(os.environ.get(name, "0") != "0" for name in _RANKS):
        return
    where = "" if run is None else f"{run.path}: "
    note(f"{where}{shown_title(recipe)}")


def shown_title(recipe: "Recipe") -> str:
    """A recipe's title, or else its name, as a terminal can show it."""
    title = recipe.title or recipe.name
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in title
    )


def print_json(value: Any) -> None:
    """Print the answer for machines."""
    typer.echo(json.dumps(value, indent=2))


def print_figures(figures: dict[str, Any]) -> None:
    """Print figures by name; those that are not there are left out."""
    table = Table(box=None, show_header=False)
    for name, value in figures.items():
        if value is not None:
            table.add_row(name.replace("_", " "), _number(value))
    out().print(table)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
