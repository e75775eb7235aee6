"""Van der Pol's oscillator, μ = 1000, by AutoSwitch and by each of its methods alone.

    python benchmarks/auto_switch.py [TOLERANCE]

From (2, 0) to t = 2000; the absolute tolerance is a thousandth of the relative one.
"""

import argparse
from collections import Counter

from rnode_dyn import (
    AdaptiveStep,
    Algorithm,
    AutoSwitch,
    MaxStepsError,
    ODEProblem,
    Rodas5P,
    Rosenbrock23,
    Solver,
    Step,
    Tsit5,
    solve,
)

# isort: split
import torch  # after rnode_dyn, which lets Lightning import beside a CPU torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

METHODS: tuple[Algorithm, ...] = (
    AutoSwitch(Tsit5(), Rosenbrock23()),
    AutoSwitch(Tsit5(), Rodas5P()),
    Rosenbrock23(),
    Rodas5P(),
    Tsit5(),
)


def van_der_pol(t: Tensor, x: Tensor) -> Tensor:
    """The oscillator of relaxation."""
    place, velocity = x.unbind(-1)
    return torch.stack([velocity, 1000 * (1 - place * place) * velocity - place], -1)


@torch.no_grad()
def row(algorithm: Algorithm, tolerance: float) -> list[str]:
    """Solve, and return what it cost."""
    start = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    stepping = AdaptiveStep(tolerance, tolerance * 1e-3)
    made: Counter[str] = Counter()

    def listen(step: Step) -> None:
        made[(step.made_by or algorithm).name] += 1

    try:
        problem = ODEProblem(van_der_pol, start, (0.0, 2000.0))
        solution = solve(problem, Solver(algorithm, stepping), callback=listen)
    except MaxStepsError as error:
        return [repr(algorithm), f"over {error.nfe:,}: ends at t = {error.t:.0f}", "0", "", ""]
    stats, end = solution.stats, float(solution.x[-1, 0, 0])
    steps = ", ".join(f"{count} {name}" for name, count in made.items())
    return [repr(algorithm), f"{stats.nfe:,}", str(stats.njac), steps, f"{end:.5f}"]


def main(tolerance: float) -> None:
    """Print the table."""
    table = Table("algorithm", "evaluations", "Jacobians", "accepted steps", "x at the end")
    for algorithm in METHODS:
        table.add_row(*row(algorithm, tolerance))
    Console(width=140).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tolerance", nargs="?", type=float, default=1e-4)
    main(**vars(parser.parse_args()))
