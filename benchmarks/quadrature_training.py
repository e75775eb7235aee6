"""Bits/dim after equal training, by the nodes of log-determinant and penalties and by precision.

    python benchmarks/quadrature_training.py [RECIPE] [KEY=VALUE…]

The recipe, the quick start unless told otherwise, is trained once for each way, with the same seed
and as many updates. Bits/dim are those of the test split by the recipe's own evaluation, which is
at the stages of a solve at 1e-5 in single precision; seconds are of the process's CPU, reading the
data and evaluating included.
"""

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rnode_dyn import Recipe, load_recipe, run
from rnode_dyn.training.loop.errors import DivergedError

STEPS = 4


def way(steps: int = STEPS, nodes: str = "", precision: str = "32-true") -> list[str]:
    """Return what a way changes of the recipe; nodes are a rule and a number, or the stages."""
    chosen = [f"solver.step={1 / steps}", f"train.precision={precision}"]
    if nodes:
        rule, count = nodes.split()
        chosen += [f"solver.quadrature.rule={rule}", f"solver.quadrature.nodes={count}"]
    return chosen


WAYS = {
    "stages": way(),
    "stages, half the steps": way(2),
    "stages, one step": way(1),
    "gauss 4": way(nodes="gauss 4"),
    "gauss 2": way(nodes="gauss 2"),
    "stratified 4": way(nodes="stratified 4"),
    "stratified 2": way(nodes="stratified 2"),
    "gauss 2, half the steps": way(2, "gauss 2"),
    "stratified 2, half the steps": way(2, "stratified 2"),
    "stratified 1, half the steps": way(2, "stratified 1"),
    "stages, bf16-mixed": way(precision="bf16-mixed"),
    "stages, bf16-true": way(precision="bf16-true"),
    "stages, half the steps, bf16-mixed": way(2, precision="bf16-mixed"),
    "stages, 64-true": way(precision="64-true"),
}
FEW_SAMPLES = ["samples.count=1", "samples.temperatures=[1.0]"]


def trained(recipe: Recipe) -> str:
    """Train, and return the test split's bits/dim in words."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            summary = run(recipe, output=Path(folder) / "run").summary
        except DivergedError as error:
            return f"diverged at step {error.step}"
    return f"{summary['bits_per_dim']:.4f} ± {summary['bits_per_dim_stderr']:.4f}"


def main(recipe: str, options: list[str]) -> None:
    """Print the table."""
    console = Console(width=120)
    table, first = Table("way", "bits/dim", "CPU s", "ratio", box=None), None
    for name, changes in WAYS.items():
        changed = load_recipe(recipe, [*changes, *FEW_SAMPLES, *options])
        begun = time.process_time()
        bits = trained(changed)
        seconds = time.process_time() - begun
        first = first or seconds
        table.add_row(name, bits, f"{seconds:.1f}", f"{seconds / first:.2f}")
        console.print(name, bits, f"{seconds:.1f}")
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="quickstart")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE")
    main(**vars(parser.parse_args()))
