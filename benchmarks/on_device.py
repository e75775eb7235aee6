"""Training steps of whole recipes on a GPU, against the textbook's, in turns.

    python benchmarks/on_device.py mnist=200 celeba64=50 cifar10=200 [--tf32] [--rounds 5]

Both sides have the same weights, noise, rule and data, in single precision. Times are medians of
wall-clock seconds; memory is what a step allocates at its peak; waits are the times at which torch
says that the host waited for the GPU, in the loss and its gradient alone. Without a GPU the CPU is
timed, and memory and waits are not told.
"""

import argparse
import statistics
import time
import warnings

import torch
from comparison import Pair, Step
from rich.console import Console
from rich.table import Table
from step_rows import ADAPTIVE, FIXED, our_step, randomize, textbook_step
from textbook import TextbookFlow

from rnode_dyn import build_model, load_recipe
from rnode_dyn.bench.measure import device_for, wait_for
from rnode_dyn.costs.pieces import choose_pieces, differentiate_by
from rnode_dyn.flows.layout import lay_out
from rnode_dyn.recipe.build import describe_event

DEVICE = device_for("auto")
GPU = DEVICE.type == "cuda"


def build(name: str, batch: int) -> tuple[Pair, str]:
    """Return a recipe's step of so many samples twice, and in what pieces ours is taken."""
    recipe = load_recipe(name)
    model, event = build_model(recipe), describe_event(recipe)
    randomize(model, torch.float32, 0.03)
    model.to(DEVICE)
    lay_out(model, DEVICE)
    pieces = choose_pieces(model, batch, DEVICE)
    differentiate_by(model, pieces.way)
    fixed = recipe.solver.step is not None
    theirs = FIXED if fixed else {**ADAPTIVE, "options": {"first_step": 1 / 6}}
    twin = TextbookFlow(model, **theirs).to(DEVICE)
    u = torch.rand(batch, *event.shape, device=DEVICE)
    pair = Pair(
        lambda: our_step(model, u, event, pieces.size), lambda: textbook_step(twin, u, event)
    )
    return pair, pieces.in_words()


def seconds(step: Step) -> float:
    """Return what a step takes until the device has done all of it."""
    wait_for(DEVICE)
    begun = time.perf_counter()
    step()
    wait_for(DEVICE)
    return time.perf_counter() - begun


def gigabytes(step: Step) -> float:
    """Return what a step allocates at its peak."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    wait_for(DEVICE)
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def waits(step: Step) -> int:
    """Return how often the host waits in a step."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)


def row(name: str, batch: int, rounds: int) -> tuple[str, ...]:
    """Measure a recipe: ours / the textbook's."""
    pair, words = build(name, batch)
    taken = [[seconds(step) for step in pair] for _ in range(rounds + 1)][1:]
    ours, theirs = (statistics.median(side) for side in zip(*taken, strict=True))
    told = [f"{ours / theirs:.2f}", f"{ours:.3g} / {theirs:.3g}"]
    told.append(" / ".join(f"{gigabytes(step):.1f}" for step in pair) if GPU else "–")
    told.append(" / ".join(str(waits(step)) for step in pair) if GPU else "–")
    return (f"{name}, batch {batch}", *told, words)


def main() -> None:
    """Measure the recipes asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", help="such as mnist=200: a recipe and its batch")
    parser.add_argument("--rounds", type=int, default=5, help="turns of a recipe, 1 or more")
    parser.add_argument("--tf32", action="store_true", help="convolutions in TF32")
    arguments = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = arguments.tf32
    columns = ("recipe", "ratio", "seconds", "GB", "waits", "pieces")
    table = Table(*columns, title=torch.cuda.get_device_name() if GPU else "CPU", box=None)
    for given in arguments.recipes:
        name, batch = given.split("=")
        table.add_row(*row(name, int(batch), arguments.rounds))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
