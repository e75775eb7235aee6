"""Arguments and options that several commands have."""

import os
from pathlib import Path
from typing import Annotated

import typer

from rnode_dyn.cli.completion import complete_override, complete_recipe, complete_run

MAX_SEED = 2**63 - 1


def home_expanded(path: Path | None) -> Path | None:
    """Return a path with the home folder for `~`, which a shell leaves in ``--output=~/x``."""
    return None if path is None else Path(os.path.expanduser(path))


Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, such as train.epochs=5.",
        autocompletion=complete_override,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
RunPath = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run folder, or a recipe's name: its newest run under runs.",
        autocompletion=complete_run,
    ),
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe's file or name.", autocompletion=complete_recipe
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of the random numbers.")
]
CheckpointName = Annotated[
    str | None,
    typer.Option(
        "--checkpoint", metavar="NAME", help="best, last, or stage-0: after the first stage."
    ),
]
