"""A comet's energy over 100,000 steps, by methods that keep it and by one that does not.

    python benchmarks/hamiltonian.py [--steps 100000] [--picture docs/assets/hamiltonian.svg]

The orbit has an eccentricity of 0.3 and a period of 2π; every method takes equal steps of 0.05, in
float64. An error is that of the energy relative to its value at the start, the largest in each of
many equal parts of the time span.
"""

import argparse
import math
import time
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from rnode_dyn import (
    RK4,
    Algorithm,
    FixedStep,
    HamiltonianProblem,
    Solver,
    VelocityVerlet,
    Yoshida4,
    solve,
)

# isort: split
import torch  # after rnode_dyn, which lets Lightning import beside a CPU torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

METHODS: tuple[Algorithm, ...] = (VelocityVerlet(), Yoshida4(), RK4())
DT = 0.05
PARTS = 100


def kinetic(p: Tensor) -> Tensor:
    """Of a mass of one."""
    return p.square().sum(1) / 2


def potential(q: Tensor) -> Tensor:
    """Of a sun at the origin."""
    return -1 / q.norm(dim=1)


@dataclass(frozen=True)
class Run:
    """What one method did.

    Attributes:
        method: Its name.
        times: Ends of the parts.
        errors: Largest relative error of the energy in each.
        evaluations: Of the field.
        seconds: It took.
    """

    method: str
    times: np.ndarray
    errors: np.ndarray
    evaluations: int
    seconds: float


@torch.no_grad()
def run(algorithm: Algorithm, steps: int) -> Run:
    """Solve, and look at the energy every tenth step."""
    torch.set_num_threads(1)
    start = torch.tensor([[0.7, 0.0, 0.0, math.sqrt(1.3 / 0.7)]], dtype=torch.float64)
    problem = HamiltonianProblem(kinetic, potential, start, (0.0, steps * DT))
    looks = torch.linspace(0.0, steps * DT, steps // 10 + 1, dtype=torch.float64)
    begin = time.perf_counter()
    solution = solve(problem, Solver(algorithm, FixedStep(DT)), save_at=looks)
    seconds = time.perf_counter() - begin
    energy = problem.energy(solution.x)[:, 0]
    error = ((energy - energy[0]) / energy[0]).abs()[1:].reshape(PARTS, -1).amax(1)
    ends = looks[1:].reshape(PARTS, -1)[:, -1]
    return Run(algorithm.name, ends.numpy(), error.numpy(), solution.stats.nfe, seconds)


def tell(runs: list[Run]) -> None:
    """Print the largest errors of the first and the last part."""
    table = Table("method", "evaluations", "first part", "last part", "seconds")
    for each in runs:
        errors = [f"{each.errors[i]:.1e}" for i in (0, -1)]
        table.add_row(each.method, f"{each.evaluations:,}", *errors, f"{each.seconds:.0f}")
    Console(width=100).print(table)


def draw(runs: list[Run], path: Path) -> None:
    """Draw the errors over time."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    for each in runs:
        axes.semilogy(each.times, each.errors, label=each.method)
    axes.set(xlabel="time, in units in which an orbit takes 2π", ylabel="relative error of energy")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Run, print, and draw where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="a multiple of 1000")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--processes", type=int, default=1, help="methods at once")
    arguments = parser.parse_args()
    with Pool(arguments.processes) as pool:
        asked = [(method, arguments.steps) for method in METHODS]
        runs = pool.starmap(run, asked, chunksize=1)
    tell(runs)
    if arguments.picture is not None:
        draw(runs, arguments.picture)


if __name__ == "__main__":
    main()
