"""How a training step's time and memory grow with batch, dimension, depth and steps.

    python benchmarks/scaling.py [--picture FILE]

One quantity grows at a time, the others stay at their base. Time is CPU time of the step, the
median over turns; memory is how far a step raises the peak of a process of its own. A slope is
that of log against log over the upper half of the range: 1 grows in proportion, 0 does not grow.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from sensitivities import resident_megabytes

from rnode_dyn import (
    RK4,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    FixedStep,
    JacobianFrobenius,
    KineticEnergy,
    MLPField,
    RegularizedFlow,
    ReversibleAdjoint,
    Sensitivity,
    Solver,
)

ADJOINTS: dict[str, Sensitivity] = {
    "DiscreteAdjoint": DiscreteAdjoint(),
    "CheckpointedAdjoint": CheckpointedAdjoint(),
    "ReversibleAdjoint": ReversibleAdjoint(),
}


@dataclass(frozen=True)
class Size:
    """What a step is asked for."""

    batch: int = 1024
    dimension: int = 64
    depth: int = 3
    steps: int = 4
    adjoint: str = "DiscreteAdjoint"


RANGES = {
    "batch": (64, 256, 1024, 4096),
    "dimension": (16, 64, 256, 1024),
    "depth": (1, 2, 4, 8),
    "steps": (2, 4, 8, 16, 32),
}
WIDTH, TURNS = 128, 7


class TrainingStep:
    """The loss of a flow of vectors and its gradient."""

    def __init__(self, size: Size) -> None:
        torch.manual_seed(0)
        solver = Solver(RK4(), FixedStep(1 / size.steps), ADJOINTS[size.adjoint])
        field = MLPField(size.dimension, (WIDTH,) * size.depth)
        self.flow = RegularizedFlow(
            field, solver, regularizers=[KineticEnergy(0.01), JacobianFrobenius(0.01)]
        )
        self.x = torch.randn(size.batch, size.dimension)

    def __call__(self) -> None:
        """Take it."""
        z, log_det, penalties = self.flow(self.x)
        (z.square().sum() - log_det.sum() + self.flow.weigh(penalties).sum()).backward()


def seconds(size: Size) -> float:
    """Return the CPU time of a step."""
    step, taken = TrainingStep(size), []
    for _ in range(TURNS + 1):
        begun = time.process_time()
        step()
        taken.append(time.process_time() - begun)
    return statistics.median(taken[1:])


def megabytes(size: Size) -> float:
    """Return the memory of a step, from a process of its own."""
    command = [sys.executable, __file__, "--memory", json.dumps(asdict(size))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def report_memory(size: Size) -> None:
    """Print how far a step raises this process's peak; a small one has set things up."""
    TrainingStep(replace(size, batch=1))()
    step = TrainingStep(size)
    before = resident_megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh from here
    step()
    print(resident_megabytes("VmHWM") - before)


def slope(xs: list[float], ys: list[float]) -> float:
    """Return the slope of log y against log x over the upper half."""
    upper = slice(len(xs) // 2 - 1, None)
    return statistics.linear_regression(
        [math.log(x) for x in xs[upper]], [math.log(y) for y in ys[upper]]
    ).slope


@dataclass(frozen=True)
class Growth:
    """Time and memory of one adjoint along one quantity."""

    quantity: str
    adjoint: str
    values: list[float]
    seconds: list[float]
    megabytes: list[float]

    @classmethod
    def measured(cls, quantity: str, adjoint: str) -> "Growth":
        """Measure it."""
        sizes = [replace(Size(adjoint=adjoint), **{quantity: v}) for v in RANGES[quantity]]
        values = [float(v) for v in RANGES[quantity]]
        return cls(quantity, adjoint, values, [*map(seconds, sizes)], [*map(megabytes, sizes)])


def table_of(growths: list[Growth]) -> Table:
    """Return the figures as people read them."""
    table = Table("quantity", "adjoint", "from … to", "ms", "slope", "MB", "slope", box=None)
    for g in growths:
        table.add_row(
            g.quantity,
            g.adjoint,
            " ".join(f"{v:.0f}" for v in g.values),
            " ".join(f"{1e3 * s:.3g}" for s in g.seconds),
            f"{slope(g.values, g.seconds):.2f}",
            " ".join(f"{m:.0f}" for m in g.megabytes),
            f"{slope(g.values, g.megabytes):.2f}",
        )
    return table


def draw(growths: list[Growth], path: Path) -> None:
    """Draw time above memory, a column a quantity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots(2, len(RANGES), sharey="row")
    for column, quantity in enumerate(RANGES):
        for g in (g for g in growths if g.quantity == quantity):
            for row, figures in enumerate((g.seconds, g.megabytes)):
                axes[row, column].loglog(g.values, figures, marker="o", label=g.adjoint)
        for axis in axes[:, column]:
            axis.set_xticks(RANGES[quantity], [str(value) for value in RANGES[quantity]])
            axis.xaxis.minorticks_off()
        axes[1, column].set_xlabel(quantity)
    axes[0, 0].set_ylabel("CPU seconds of a step")
    axes[1, 0].set_ylabel("megabytes of a step")
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=None, help="where to draw it")
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory is not None:
        report_memory(Size(**arguments.memory))
        return
    growths = [Growth.measured(q, a) for q in RANGES for a in ADJOINTS]
    Console(width=140).print(table_of(growths))
    if arguments.picture is not None:
        draw(growths, arguments.picture)


if __name__ == "__main__":
    main()
