"""``rnode-dyn score``: how likely a trained flow finds samples of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnode_dyn.cli.device import DeviceName, move
from rnode_dyn.cli.options import AsJson, CheckpointName, RunPath, Seed, home_expanded
from rnode_dyn.cli.printing import announce, note, out, print_json

if TYPE_CHECKING:
    from rnode_dyn.data.splits import Event
    from rnode_dyn.flows.multiscale import MultiscaleFlow
    from rnode_dyn.recipe.schema import Recipe
    from rnode_dyn.runs.score import Score

_SUFFIXES = (".npy", ".npz", ".csv")


def score_command(
    run_path: RunPath,
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES",
            help="A .npy, .npz, .csv or .parquet file, or a folder of pictures.",
            callback=home_expanded,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            callback=home_expanded,
            help="File: .npy for log p alone; .npz or .csv for bits/dim and standard errors too.",
        ),
    ] = Path("scores.npy"),
    probes: Annotated[
        int, typer.Option("--probes", min=1, help="Solves a sample, where noise is drawn.")
    ] = 4,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Samples solved for at once.")
    ] = None,
    label: Annotated[
        int | None,
        typer.Option("--condition", help="Of a flow conditional on classes: that of all samples."),
    ] = None,
    checkpoint: CheckpointName = None,
    device: DeviceName = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score samples: log p of each in nats, bits per dimension, and standard errors."""
    from rnode_dyn.runs.find import find_run
    from rnode_dyn.runs.recipe_of import recipe_of

    if output.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"--output is {output}: its name must end in {_SUFFIXES[0]}")
    if output.is_dir() or (output.exists() and samples.exists() and output.samefile(samples)):
        what = "a folder" if output.is_dir() else "where the samples are"
        raise typer.BadParameter(f"--output is {output}, {what}: write the name of another file")
    folder = find_run(run_path)
    folder.checkpoint(checkpoint)
    announce(recipe_of(folder), folder)
    from rnode_dyn.data.reading import read_samples
    from rnode_dyn.recipe.build import describe_event
    from rnode_dyn.runs.score import score_samples
    from rnode_dyn.runs.weights import load_flow

    recipe, model = load_flow(folder, checkpoint, tell=note)
    move(model, recipe, device)
    event = describe_event(recipe)
    found = read_samples(samples, event)
    try:
        x, condition = _parted(recipe, found.samples, label)
        data = recipe.data
        score = score_samples(
            model,
            event,
            x,
            probes=probes,
            batch_size=batch_size or data.eval_batch_size or data.batch_size,
            seed=seed,
            condition=condition,
            progress=True,
        )
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"{samples}: {error}") from error
    _write(output, score, found.names)
    figures = {**_figures(score), **_dequantization(model, event)}
    if as_json:
        print_json({"file": str(output), **figures, "probes": probes, "seed": seed})
    else:
        out().print(
            f"{figures['samples']} samples, {figures['bits_per_dim']:.4g} bits/dim in the mean"
            f"{_bound(figures)}: {output}",
            soft_wrap=True,
        )


def _parted(recipe: "Recipe", samples: Any, label: int | None) -> tuple[Any, Any]:
    """Return samples and conditions: a label for all, or the table's own columns."""
    import torch

    columns = list(recipe.data.condition_columns)
    if not columns:
        return samples, None if label is None else torch.full((len(samples),), label)
    if label is not None:
        raise ValueError("its conditions are columns of the table: leave --condition out.")
    if samples.ndim != 2 or samples.shape[1] <= max(columns):
        raise ValueError(
            f"samples have shape {tuple(samples.shape)}; this flow scores tables whose columns "
            f"{columns} are the conditions."
        )
    own = [column for column in range(samples.shape[1]) if column not in columns]
    return samples[:, own], torch.as_tensor(samples[:, columns])


def _figures(score: "Score") -> dict[str, Any]:
    return {
        "samples": len(score.log_prob),
        "log_prob": float(score.log_prob.mean()),
        "bits_per_dim": float(score.bits_per_dim.mean()),
    }


def _dequantization(model: "MultiscaleFlow", event: "Event") -> dict[str, str]:
    """How pixels were dequantized, by name; nothing for what is none."""
    from rnode_dyn.flows.variational import dequantization_of

    return {} if event.levels is None else {"dequantization": dequantization_of(model)}


def _bound(figures: dict[str, Any]) -> str:
    learned = figures.get("dequantization") == "variational"
    return " (a variational bound)" if learned else ""


def _write(path: Path, score: "Score", names: tuple[str, ...]) -> None:
    """Write a file that is there whole or not at all."""
    import io

    import numpy as np

    from rnode_dyn.runs.durable import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    arrays, buffer = {k: v.numpy() for k, v in score._asdict().items()}, io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, arrays["log_prob"])
    elif path.suffix.lower() == ".npz":
        np.savez(buffer, **arrays)
    else:
        buffer.write(_table(arrays, names).encode())
    write_whole(path, buffer.getvalue())


def _table(arrays: dict[str, Any], names: tuple[str, ...]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["file"] if names else []), *arrays])
    for row, numbers in enumerate(zip(*arrays.values(), strict=True)):
        writer.writerow([*([names[row]] if names else []), *map(float, numbers)])
    return text.getvalue()
