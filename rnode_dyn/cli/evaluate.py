"""``rnode-dyn evaluate``: measure a trained flow on held-out data."""

from typing import Annotated, Literal

import typer

from rnode_dyn.cli.completion import complete_override
from rnode_dyn.cli.device import DeviceName, move
from rnode_dyn.cli.options import AsJson, CheckpointName, RunPath, Seed
from rnode_dyn.cli.printing import announce, note, out, print_json

SplitName = Literal["train", "validation", "test"]


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
            autocompletion=complete_override,
        ),
    ] = None,
    checkpoint: CheckpointName = None,
    device: DeviceName = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a trained flow on held-out data, and say how it was measured."""
    from rnode_dyn.runs.find import find_run
    from rnode_dyn.runs.recipe_of import recipe_of

    _check_measures(overrides or [])
    folder = find_run(run_path)
    scored = folder.checkpoint(checkpoint)
    announce(recipe_of(folder, overrides or []), folder)
    from rnode_dyn.evaluation.evaluate import evaluate, first_of
    from rnode_dyn.evaluation.text import evaluation_text
    from rnode_dyn.flows.divergence import ExactDivergence
    from rnode_dyn.recipe.build import as_taken, load_splits
    from rnode_dyn.runs.weights import load_flow
    from rnode_dyn.training.loop.stages import data_module

    recipe, model = load_flow(folder, checkpoint, overrides or [], tell=note)
    splits = as_taken(load_splits(recipe), model)
    samples = getattr(splits, split)
    there = move(model, recipe, device)
    _check_can_be_scored(split, len(samples), limit, bin_centre or splits.levels is not None)
    loader = data_module(recipe, splits).eval_loader(samples)
    evaluation = evaluate(
        model,
        first_of(loader, limit or len(samples)),
        splits.event,
        seed,
        divergence=ExactDivergence() if exact else None,
        split=split,
        split_samples=len(samples),
        bin_centre=bin_centre,
    )
    if as_json:
        print_json({"checkpoint": scored.stem, "device": there, **evaluation.as_dict()})
    else:
        out().print(evaluation_text(evaluation))


def _check_can_be_scored(split: str, samples: int, limit: int | None, bins_are_there: bool) -> None:
    if not bins_are_there:
        raise typer.BadParameter(
            "--no-bin-centre is for pixels, and these data have no bins: leave it out"
        )
    if limit is not None and limit > samples:
        raise typer.BadParameter(
            f"--limit is {limit}, and the {split} split has {samples} samples: leave it out"
        )


def _check_measures(overrides: list[str]) -> None:
    """Refuse what a flow that is trained already has no more use for."""
    from rnode_dyn.recipe.overrides import parse_override

    for override in map(parse_override, overrides):
        if override.keys[0] != "data" and "eval" not in override.keys:
            raise typer.BadParameter(
                f"{override.source} says nothing about measuring a trained flow: write a key of "
                "[data], [solver.eval] or [divergence.eval], or train again with it"
            )
