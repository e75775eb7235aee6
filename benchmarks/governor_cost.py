"""What watching over the steps costs: a look of the governor against a training step.

    python benchmarks/governor_cost.py RUN [ROUNDS]

The flow is that of a finished run with step = "auto", at the steps that it ended with. A look and
a training step of the recipe's last stage take turns; ratios are medians. A look comes every
train.governor.every updates.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from rnode_dyn import Likelihood
from rnode_dyn.costs.stages import likelihood_batch_size
from rnode_dyn.flows.refinement import refine, set_step_count
from rnode_dyn.recipe.build import load_splits
from rnode_dyn.recipe.schema import GovernorRecipe
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.weights import load_flow
from rnode_dyn.training.governor.build import build_governor
from rnode_dyn.training.loop.module import FlowTraining


def seconds(act: Callable[[], object]) -> float:
    """How long something takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def main(run: Path, rounds: int) -> None:
    """Print the ratio, and the part of the training that looks take."""
    torch.set_num_threads(1)
    folder = RunFolder(run)
    recipe, model = load_flow(folder)
    model.train()
    splits, batch_size = load_splits(recipe), likelihood_batch_size(recipe)
    governor = build_governor(recipe, model, splits, batch_size)
    if governor is None:
        raise SystemExit(f"{run} has no governor: give a run with solver.step = auto")
    steps = json.loads(folder.summary.read_text())["governor_steps"]
    for block, count in zip(governor.blocks, steps, strict=True):
        set_step_count(block, count)
    module = FlowTraining(model, splits.event)
    u = module.dequantize(splits.train.head(batch_size))

    def step() -> None:
        Likelihood().loss(model, u, splits.event).value.backward()
        model.zero_grad()

    def look() -> None:
        refine(model, governor.batch, governor.blocks, seed=1)

    pairs = [(seconds(look), seconds(step)) for _ in range(rounds + 1)][1:]
    ratio = median(first / second for first, second in pairs)
    every = (recipe.train.governor or GovernorRecipe()).every
    print(
        f"a look at {len(governor.batch)} points costs {ratio:.2f} training steps of "
        f"{batch_size}: {ratio / every:.1%} at every {every}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("rounds", nargs="?", type=int, default=15)
    main(**vars(parser.parse_args()))
