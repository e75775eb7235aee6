"""What all cores of the CPU gain over one: training steps by threads, and by processes.

    python benchmarks/cores.py [--rounds 9] [--ranks RECIPE]

A step takes turns with one thread of torch and with all of them; a ratio is that of the wall
clock, or of the CPU's seconds, of one turn. Processes train a recipe at the same global batch by
the command, as many as there are cores and one, each with one thread. The machine should be idle:
whatever else runs takes a core away from the second thread.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from comparison import Row, Step
from ranks import trained
from rich.console import Console
from rich.table import Table
from step_rows import block_row, mlp_row, recipe_row

from rnode_dyn import DiscreteAdjoint
from rnode_dyn.numerics.threads import torch_threads
from rnode_dyn.runs.record import read_record

CORES = os.cpu_count() or 1


def rows() -> list[Row]:
    """What is timed, the smallest first."""
    return [
        mlp_row(256, dimension=2, widths=(32, 32), std=0.5),
        mlp_row(256),
        mlp_row(2048),
        block_row(1, 14, DiscreteAdjoint(), 8),
        block_row(1, 28, DiscreteAdjoint(), 8),
        recipe_row("mnist", 8, long=False),
    ]


def turn(step: Step, threads: int) -> tuple[float, float]:
    """Return a step's seconds by the wall clock and of the CPU, with so many threads."""
    with torch_threads(threads):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        return time.perf_counter() - wall, time.process_time() - cpu


def by_threads(row: Row, rounds: int) -> tuple[str, ...]:
    """Return a row of the table: all threads over one."""
    step, ratios = row.build(torch.float32, row.batch).ours, []
    for number in range(rounds + 1):
        order = (1, CORES) if number % 2 else (CORES, 1)
        taken = {threads: turn(step, threads) for threads in order}
        ratios.append([all_ / one for all_, one in zip(taken[CORES], taken[1], strict=True)])
    wall, cpu = zip(*ratios[1:], strict=True)
    spread = f"{min(wall):.2f} … {max(wall):.2f}"
    return row.name, f"{statistics.median(wall):.2f}", spread, f"{statistics.median(cpu):.2f}"


def by_processes(recipe: str) -> float:
    """Return what 50 updates take with a process a core, over what they take with one."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for ranks in (1, CORES):
            run = trained(recipe, "32-true", ranks, 1, Path(folder) / str(ranks))
            seconds.append((read_record(run).summary or {})["training_s"])
    return seconds[1] / seconds[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each row, 1 or more")
    parser.add_argument("--ranks", nargs="*", default=[], help="recipes for processes")
    arguments = parser.parse_args()
    table = Table("step", f"{CORES} threads / 1", "from … to", "CPU time", box=None)
    for row in rows():
        table.add_row(*by_threads(row, arguments.rounds))
    console = Console(width=120)
    console.print(table)
    for recipe in arguments.ranks:
        ratio = by_processes(recipe)
        console.print(f"{recipe}: {CORES} processes / 1, wall clock of training: {ratio:.2f}")


if __name__ == "__main__":
    main()
