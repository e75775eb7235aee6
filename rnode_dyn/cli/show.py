"""``rnode-dyn show``: a recipe's model, and what training it costs."""

import math
from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnode_dyn.cli.options import AsJson, Overrides, RecipeName
from rnode_dyn.cli.printing import announce, out, print_json, shown_title

if TYPE_CHECKING:
    from rnode_dyn.costs.pieces import Pieces
    from rnode_dyn.costs.text import Rate
    from rnode_dyn.flows.multiscale import MultiscaleFlow
    from rnode_dyn.flows.regularized import RegularizedFlow
    from rnode_dyn.recipe.schema import Recipe


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
    from rnode_dyn.recipe.load import load_recipe

    _check_rate(flops, measure)
    recipe = load_recipe(recipe_name, overrides or ())
    announce(recipe)
    from rnode_dyn.costs.architecture import architecture_tree, describe_model
    from rnode_dyn.costs.cost import training_cost
    from rnode_dyn.costs.epoch import train_size
    from rnode_dyn.costs.stages import likelihood_batch_size, stage_figures, stage_lines
    from rnode_dyn.costs.text import cost_figures, cost_notes, cost_table
    from rnode_dyn.costs.whole import run_hours, run_line
    from rnode_dyn.recipe.build import build_model, describe_event, governed_blocks

    event = describe_event(recipe)
    model = build_model(recipe, event)
    governed = governed_blocks(recipe, model)
    pieces = _pieces(recipe, model, governed)
    cost = training_cost(model, likelihood_batch_size(recipe), evaluations, governed)
    if evaluations is not None and not cost.assumed:
        raise typer.BadParameter(
            "--evaluations is for steps that the training chooses, and all blocks take fixed "
            "ones: leave it out"
        )
    rates = _rates(recipe, flops, measure)
    rate = rates.get("likelihood")
    figures, samples = describe_model(model, governed), train_size(recipe.data)
    stages = stage_figures(recipe, model, cost, samples, rates)
    whole = run_hours(recipe, model, event, stages, samples, rates)
    if as_json:
        costs = cost_figures(cost, samples, rate)
        named = {"name": recipe.name, "title": recipe.title}
        chosen = None if pieces is None else asdict(pieces)
        print_json(
            {
                **named,
                **figures,
                **costs,
                "micro_batch": chosen,
                "stages": stages,
                "run_hours": whole,
            }
        )
        return
    out().print(architecture_tree(shown_title(recipe), model, governed))
    out().print(
        f"{figures['continuous_blocks']} continuous blocks in {figures['scales']} scales; "
        f"{_evaluations(figures)} in a training pass",
        *stage_lines(recipe, stages),
        *run_line(whole),
        *([] if pieces is None else [f"micro-batch: {pieces.in_words()}"]),
        sep="\n",
        soft_wrap=True,
    )
    table = cost_table(cost, samples, rate, None if pieces is None else pieces.size)
    out().print("", table, "", *cost_notes(cost, samples, rate), sep="\n")


def _check_rate(flops: float | None, measure: bool) -> None:
    if measure and flops is not None:
        raise typer.BadParameter("--flops states what --measure finds out: drop one of them")
    if flops is not None and not 0 < flops < math.inf:
        raise typer.BadParameter(f"--flops is {flops}: write a positive number, such as 1e13")


def _rates(recipe: "Recipe", flops: float | None, measure: bool) -> "dict[str, Rate]":
    """Return how fast a machine computes what a run consists of, as far as is known."""
    from rnode_dyn.bench.rates import measure_rates
    from rnode_dyn.costs.text import Rate

    if measure:
        return measure_rates(recipe)
    names = {"likelihood", *(stage.objective for stage in recipe.train.stages)}
    return {} if flops is None else dict.fromkeys(names, Rate(flops, "as --flops states"))


def _pieces(
    recipe: "Recipe", model: "MultiscaleFlow", governed: "Collection[RegularizedFlow]"
) -> "Pieces | None":
    """Return in what pieces the training's last stage would solve its batches here and now.

    The model is differentiated as they are from then on.
    """
    from rnode_dyn.bench.measure import device_for
    from rnode_dyn.costs.pieces import choose_pieces, differentiate_by, given_pieces
    from rnode_dyn.costs.stages import likelihood_batch_size

    size, batch_size = recipe.train.micro_batch, likelihood_batch_size(recipe)
    device = device_for(recipe.train.accelerator)
    if size is None:
        return None
    if size == "auto":
        chosen = choose_pieces(model, batch_size, device, governed)
        differentiate_by(model, chosen.way)
        return chosen
    return given_pieces(model, batch_size, size, device, governed)


def _evaluations(figures: dict[str, Any]) -> str:
    count = figures["evaluations_per_forward"]
    return "as many evaluations as it takes" if count is None else f"{count} evaluations"
