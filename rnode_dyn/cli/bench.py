"""``rnode-dyn bench``: training steps timed here."""

from dataclasses import asdict
from typing import Annotated

import typer

from rnode_dyn.cli.options import AsJson, Overrides, RecipeName
from rnode_dyn.cli.printing import announce, out, print_json


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
    from rnode_dyn.recipe.load import load_recipe

    recipe = load_recipe(recipe_name, overrides or ())
    announce(recipe)
    from rnode_dyn.bench.bench import bench
    from rnode_dyn.bench.text import bench_table
    from rnode_dyn.costs.stages import likelihood_batch_size

    timed = bench(recipe, batch_size or likelihood_batch_size(recipe), rounds)
    if as_json:
        print_json({"name": recipe.name, **asdict(timed)})
        return
    out().print(
        bench_table(timed),
        "",
        f"batch of {timed.batch_size:,}, {timed.precision}, {timed.device}; loss and gradient on "
        f"noise, medians of {timed.rounds} rounds in turns",
        sep="\n",
    )
