"""``rnode-dyn export``: a trained flow as a graph that runs without this package."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from rnode_dyn.cli.options import AsJson, CheckpointName, RunPath, home_expanded
from rnode_dyn.cli.printing import announce, note, out, print_json

_SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}


def export_command(
    run_path: RunPath,
    kind: Annotated[
        Literal["torch", "onnx"], typer.Option("--format", help="torch.export's, or ONNX.")
    ] = "torch",
    function: Annotated[
        Literal["log_prob", "sample"],
        typer.Option("--function", help="The log-density of samples, or samples of noise."),
    ] = "log_prob",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            callback=home_expanded,
            help="File; default: the function's name, in the run's folder exports.",
        ),
    ] = None,
    step: Annotated[
        float | None,
        typer.Option("--step", help="Length of fixed steps, where the run's own are adaptive."),
    ] = None,
    checkpoint: CheckpointName = None,
    as_json: AsJson = False,
) -> None:
    """Write a trained flow as a graph with its solver's steps in it, and say how exact it is."""
    from rnode_dyn.runs.find import find_run
    from rnode_dyn.runs.recipe_of import recipe_of

    suffix = _SUFFIXES[kind]
    if output is not None and output.suffix.lower() != suffix:
        raise typer.BadParameter(f"--output is {output}: its name must end in {suffix}")
    folder = find_run(run_path)
    folder.checkpoint(checkpoint)
    announce(recipe_of(folder), folder)
    from rnode_dyn.runs.errors import ExportError, RunError
    from rnode_dyn.runs.export import export_run

    path = output or folder.path / "exports" / f"{function}{suffix}"
    try:
        found = export_run(folder, path, function, step=step, checkpoint=checkpoint, tell=note)
    except RunError:
        raise
    except (TypeError, ValueError) as error:
        raise ExportError(re.sub(r"\bstep=", "--step ", str(error))) from error
    if as_json:
        shapes = {name: list(shape) for name, shape in found.inputs.items()}
        said = {"format": kind, "function": function, "inputs": shapes, "gap": found.gap}
        print_json({"file": str(found.path), **said})
    else:
        out().print(f"{function}({_signature(found.inputs)}): {found.path}", soft_wrap=True)


def _signature(inputs: dict[str, tuple[int | None, ...]]) -> str:
    """Arguments as one writes them, the batch as n.

    Example:
        >>> _signature({"x": (None, 1, 8, 8), "condition": (None,)})
        'x (n, 1, 8, 8), condition (n,)'
    """
    shapes = (
        (name, ", ".join("n" if size is None else str(size) for size in shape))
        for name, shape in inputs.items()
    )
    return ", ".join(f"{name} ({s})" if "," in s else f"{name} ({s},)" for name, s in shapes)
