"""What the pieces of a recipe's batch cost: CPU seconds a sample, and memory beside its prediction.

    python benchmarks/pieces.py mnist
    python benchmarks/pieces.py celeba64 --sizes

The weights are drawn afresh, since a flow that is the identity takes no steps. Sizes take turns;
the memory is that of one piece of the size that "auto" chooses, as the rise of this process's peak
(Linux only).
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from sensitivities import resident_megabytes
from step_rows import CPU, randomize

from rnode_dyn import CheckpointedAdjoint, DiscreteAdjoint, Likelihood, build_model, load_recipe
from rnode_dyn.costs.pieces import choose_pieces, differentiated_by
from rnode_dyn.recipe.build import describe_event, governed_blocks
from rnode_dyn.training.loop.pieces import loss_in_pieces

WAYS = {"discrete": DiscreteAdjoint(), "checkpointed": CheckpointedAdjoint()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(arguments.recipe)
    model, event = build_model(recipe), describe_event(recipe)
    randomize(model, torch.float32, 0.03)
    batch_size = recipe.data.batch_size
    chosen = choose_pieces(model, batch_size, CPU, governed_blocks(recipe, model))

    def step(way: str | None, size: int, count: int) -> float:
        u, start = torch.rand(count, *event.shape), time.process_time()
        with differentiated_by(model, WAYS.get(way or "")):
            loss_in_pieces(Likelihood(), model, u, event, size).value.backward()
        model.zero_grad()
        return (time.process_time() - start) / count

    step(chosen.way, 1, 1)
    before = resident_megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh from here
    step(chosen.way, chosen.size, chosen.size)
    rise = (resident_megabytes("VmHWM") - before) * 2**20 / 1e9
    print(f"{chosen.in_words()}; it took {rise:.2f} GB", flush=True)
    turns = [(way, size) for size in arguments.sizes for way in WAYS]
    taken: dict[tuple[str, int], list[float]] = {turn: [] for turn in turns}
    for _ in range(arguments.rounds):
        for turn in turns:
            taken[turn].append(step(*turn, max(arguments.sizes)))
    for (way, size), seconds in taken.items():
        print(f"{way}, pieces of {size}: {statistics.median(seconds):.3g} CPU seconds a sample")


if __name__ == "__main__":
    main()
