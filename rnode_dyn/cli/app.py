"""The commands put together."""

from typing import Annotated

import typer

import rnode_dyn
from rnode_dyn.cli.bench import bench_command
from rnode_dyn.cli.evaluate import evaluate_command
from rnode_dyn.cli.examples import examples_of
from rnode_dyn.cli.export import export_command
from rnode_dyn.cli.guard import guarded
from rnode_dyn.cli.recipes import recipes_command
from rnode_dyn.cli.report import report_command
from rnode_dyn.cli.run import run_command
from rnode_dyn.cli.sample import sample_command
from rnode_dyn.cli.score import score_command
from rnode_dyn.cli.show import show_command
from rnode_dyn.cli.sweep import sweep_command

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Regularized neural ODEs: continuous normalizing flows that train fast.",
    epilog=examples_of(""),
)

_COMMANDS = {
    "run": run_command,
    "evaluate": evaluate_command,
    "sample": sample_command,
    "score": score_command,
    "export": export_command,
    "report": report_command,
    "sweep": sweep_command,
    "show": show_command,
    "bench": bench_command,
    "recipes": recipes_command,
}

for _name, _command in _COMMANDS.items():
    app.command(_name, epilog=examples_of(_name))(guarded(_command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rnode-dyn {rnode_dyn.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command."""
    app()
