"""How well a trained flow was solved while it trained: bits/dim by its steps, and by many more.

    python benchmarks/solved.py RUN [POINTS] [CHECKPOINT]

Every solution sees the same test points, dequantization and noise. The steps of the training
are the last that the run's metrics.csv tells; a run without a governor has the recipe's own.
"""

import argparse
import csv
from pathlib import Path

import torch

from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.refinement import set_step_count, step_count
from rnode_dyn.recipe.build import load_splits
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.weights import load_flow
from rnode_dyn.training.loop.module import FlowTraining

MANY = 16


def trained_steps(folder: RunFolder, model: MultiscaleFlow) -> list[int]:
    """Steps of each block at the end of the training."""
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("governor/gap")]
    last = rows[-1] if rows else {}
    return [
        int(float(last.get(f"steps/block_{k}") or step_count(block)))
        for k, block in enumerate(model.blocks)
    ]


@torch.no_grad()
def bits(model: MultiscaleFlow, points: torch.Tensor, event, steps: list[int]) -> torch.Tensor:
    """Bits/dim of the points at so many steps a block."""
    for block, count in zip(model.blocks, steps, strict=True):
        set_step_count(block, count)
    found = []
    for number, batch in enumerate(points.split(100)):
        torch.manual_seed(number)
        found.append(bits_of(model(batch), event))
    return torch.cat(found).double()


def main(run: Path, points: int, checkpoint: str | None) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    folder = RunFolder(run)
    recipe, model = load_flow(folder, checkpoint)
    splits = load_splits(recipe)
    torch.manual_seed(0)
    module = FlowTraining(model, splits.event)
    u = module.dequantize(splits.test.head(points))
    model.train()  # the training solver, not that of evaluation
    own = trained_steps(folder, model)
    blocks = len(model.blocks)
    exact = bits(model, u, splits.event, [MANY] * blocks)
    print("| steps a block | bits/dim | above that of 16 |\n|---|---|---|")
    for name, steps in {"as trained: " + " ".join(map(str, own)): own, "1": [1] * blocks}.items():
        here = bits(model, u, splits.event, steps)
        print(f"| {name} | {here.mean():.4f} | {(here - exact).mean():+.4f} |")
    error = exact.std() / len(exact) ** 0.5
    print(f"| {MANY} | {exact.mean():.4f} ± {error:.4f} | |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("points", nargs="?", type=int, default=400)
    parser.add_argument("checkpoint", nargs="?")
    main(**vars(parser.parse_args()))
