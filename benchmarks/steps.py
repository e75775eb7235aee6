"""Training steps, evaluation and sampling against other implementations: `make bench`.

    python benchmarks/steps.py                    # the rows that take seconds
    python benchmarks/steps.py --long             # those of whole recipes as well: an hour
    python benchmarks/steps.py --only MLP --rounds 21 --json bench.json

The other side is a textbook implementation, or another package's flow. Both have the same weights,
noise, rule and data. That they compute the same, loss and gradient, is checked first in float64, in
the same run: a row that disagrees is not timed, and the exit status is 1. Then they take turns in
float32; a ratio is ours over the other's in one turn, given as the median with the smallest and the
largest. CPU seconds do not see other work on the machine, but for its caches. Memory is how far one
step raises the peak of a process of its own.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from comparison import Row, Step
from rich.console import Console
from rich.table import Table
from sensitivities import resident_megabytes
from step_rows import ROWS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

SIDES = ("ours", "textbook")
AGREED_ON = 2


@dataclass(frozen=True)
class Side:
    """What a step of one side took: medians over the turns."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    evaluations: int
    products: int | None
    gflop: float
    host_readings: int
    page_faults: int


@dataclass(frozen=True)
class Result:
    """A row's figures; ratios are ours over the other's: median, smallest, largest."""

    name: str
    difference: float
    rounds: int
    cpu_ratio: tuple[float, float, float]
    wall_ratio: tuple[float, float, float]
    ours: Side
    textbook: Side


def difference(row: Row) -> float:
    """Return the largest relative difference of any value in float64."""
    ours, textbook = (step().values for step in row.build(torch.float64, AGREED_ON))
    pairs = zip(ours, textbook, strict=True)
    return max(float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in pairs)


def peak_megabytes(row: Row, side: str) -> float:
    """Measure one step's memory in a process of its own."""
    command = [sys.executable, __file__, "--memory", row.name, "--side", side]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report_memory(row: Row, side: str) -> None:
    """Print how far one step raises this process's peak; a small one has set things up."""
    getattr(row.build(torch.float32, 1), side)()
    step = getattr(row.build(torch.float32, row.batch), side)
    before = resident_megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh from here
    step()
    print(resident_megabytes("VmHWM") - before)


def operations(row: Row, side: str) -> float:
    """Return the operations of a step by torch's counter, in units of 10⁹."""
    step = getattr(row.build(torch.float32, row.batch), side)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]  # it trips over our functions
    with counter:
        step()
    return counter.get_total_flops() / 1e9


def readings(row: Row, side: str) -> int:
    """Return how often a step reads a value of a tensor, for which a GPU would be waited for."""
    step = getattr(row.build(torch.float32, row.batch), side)
    with _Readings() as counted:
        step()
    return counted.count


class _Readings(TorchDispatchMode):
    """Counts what ``item``, ``bool`` and ``float`` of a tensor come to."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class _NoModules(nullcontext):
    """Stands for the counter's module tracker."""

    parents = frozenset({"Global"})


@dataclass
class Turn:
    """One timed step."""

    cpu_s: float
    wall_s: float
    page_faults: int
    evaluations: int
    products: int | None


def take(step: Step) -> Turn:
    """Time a step."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    cpu, wall = time.process_time(), time.perf_counter()
    outcome = step()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return Turn(cpu, wall, faults, outcome.evaluations, outcome.products)


def compare(row: Row, rounds: int, far: float) -> Result:
    """Measure a row whose sides agree, but for so much."""
    pair, turns = row.build(torch.float32, row.batch), {side: [] for side in SIDES}
    for number in range(rounds + 1):
        for side in SIDES if number % 2 else reversed(SIDES):
            turns[side].append(take(getattr(pair, side)))
    sides = {side: summary(row, side, taken[1:]) for side, taken in turns.items()}
    timed = list(zip(turns["ours"][1:], turns["textbook"][1:], strict=True))
    return Result(
        row.name,
        far,
        rounds,
        spread([a.cpu_s / b.cpu_s for a, b in timed]),
        spread([a.wall_s / b.wall_s for a, b in timed]),
        **sides,
    )


def summary(row: Row, side: str, turns: list[Turn]) -> Side:
    """Return the medians of the turns, with what is counted once."""
    return Side(
        statistics.median(turn.cpu_s for turn in turns),
        statistics.median(turn.wall_s for turn in turns),
        peak_megabytes(row, side),
        turns[-1].evaluations,
        turns[-1].products,
        operations(row, side),
        readings(row, side),
        round(statistics.median(turn.page_faults for turn in turns)),
    )


def spread(ratios: list[float]) -> tuple[float, float, float]:
    """Return median, smallest and largest."""
    return statistics.median(ratios), min(ratios), max(ratios)


def table_of(results: list[Result]) -> Table:
    """Return the figures as people read them: ours / the other's."""
    columns = ("row", "CPU time", "from … to", "wall", "s", "peak MB")
    counted = ("evaluations", "VJPs", "GFLOP", "host readings", "page faults")
    table = Table(*columns, *counted, box=None)
    for r in results:
        a, b = r.ours, r.textbook
        table.add_row(
            r.name,
            f"{r.cpu_ratio[0]:.2f}",
            f"{r.cpu_ratio[1]:.2f} … {r.cpu_ratio[2]:.2f}",
            f"{r.wall_ratio[0]:.2f}",
            f"{a.cpu_s:.3g} / {b.cpu_s:.3g}",
            f"{a.peak_mb:.0f} / {b.peak_mb:.0f}",
            f"{a.evaluations} / {b.evaluations}",
            "–" if a.products is None else f"{a.products} / {b.products}",
            f"{a.gflop:.3g} / {b.gflop:.3g}",
            f"{a.host_readings} / {b.host_readings}",
            f"{a.page_faults} / {b.page_faults}",
        )
    return table


def write(results: list[Result], path: Path) -> None:
    """Write the figures so far as JSON."""
    versions = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    found = {"versions": versions, "rows": [asdict(result) for result in results]}
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Measure the rows asked for, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AsWritten)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--long", action="store_true", help="rows of minutes as well")
    parser.add_argument("--rounds", type=int, default=9, help="turns of a row, 1 or more")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", type=Path, default=None, help="where to write the figures")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory is not None:
        report_memory(next(r for r in ROWS if r.name == arguments.memory), arguments.side)
        return
    rows = [r for r in ROWS if arguments.only in r.name and (arguments.long or not r.long)]
    far = {row: difference(row) for row in rows}
    apart = [row for row in rows if not far[row] <= row.agreement]
    for row in apart:
        print(f"{row.name}: ours and {row.other} differ by {far[row]:.1e}: it is not timed")
    results = []
    for row in (row for row in rows if row not in apart):
        results.append(compare(row, arguments.rounds, far[row]))
        print(
            f"{row.name}: {results[-1].cpu_ratio[0]:.2f} of the CPU time of {row.other}", flush=True
        )
        if arguments.json is not None:
            write(results, arguments.json)
    Console(width=200).print(table_of(results))
    sys.exit(1 if apart else 0)


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


if __name__ == "__main__":
    main()
