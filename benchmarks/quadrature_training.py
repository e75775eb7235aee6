"""Bits/dim after equal training, by where the log-determinant and the penalties are integrated.

    python benchmarks/quadrature_training.py [RECIPE] [KEY=VALUE…]

The recipe, the quick start unless told otherwise, is trained once for each way, with the same seed
and as many updates. Bits/dim are those of the test split by the recipe's own evaluation, which is
at the stages of a solve at 1e-5; seconds are of the process's CPU, reading the data and evaluating
included.
"""

import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rnode_dyn import load_recipe, run

WAYS = {
    "stages": (4, None),
    "stages, half the steps": (2, None),
    "stages, one step": (1, None),
    "gauss 4": (4, ("gauss", 4)),
    "gauss 2": (4, ("gauss", 2)),
    "stratified 4": (4, ("stratified", 4)),
    "stratified 2": (4, ("stratified", 2)),
    "gauss 2, half the steps": (2, ("gauss", 2)),
    "stratified 2, half the steps": (2, ("stratified", 2)),
    "stratified 1, half the steps": (2, ("stratified", 1)),
}


def overrides(steps: int, nodes: tuple[str, int] | None) -> list[str]:
    """Return what a way changes of the recipe."""
    chosen = [f"solver.step={1 / steps}", "samples.count=1", "samples.temperatures=[1.0]"]
    if nodes is not None:
        rule, count = nodes
        chosen += [f"solver.quadrature.rule={rule}", f"solver.quadrature.nodes={count}"]
    return chosen


def main(recipe: str = "quickstart", *options: str) -> None:
    """Print the table."""
    table = Table("log-det and penalties", "steps", "products", "bits/dim", "CPU s", "ratio")
    first = None
    for name, (steps, nodes) in WAYS.items():
        changed = load_recipe(recipe, [*overrides(steps, nodes), *options])
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            summary = run(changed, output=Path(folder) / "run").summary
            seconds = time.process_time() - start
        first = first or seconds
        bits, error = summary["bits_per_dim"], summary["bits_per_dim_stderr"]
        products = 4 * steps if nodes is None else nodes[1]
        cells = (f"{bits:.4f} ± {error:.4f}", f"{seconds:.1f}", f"{seconds / first:.2f}")
        table.add_row(name, str(steps), str(products), *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
