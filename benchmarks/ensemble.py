"""A thousand Lorenz systems of different parameters: one solve of all against one after another.

    python benchmarks/ensemble.py [MEMBERS]

Every system starts at (1, 1, 1) and runs for one unit of time, in float32 on one thread, without
gradients. The loop solves every system with the same solver; a ratio is its time over that of the
ensemble, and *apart* the largest difference of an end state, relative to the largest entry.
"""

import argparse
import time

from rnode_dyn import RK4, AdaptiveStep, FixedStep, ODEProblem, Solver, Tsit5, solve, solve_ensemble

# isort: split
import torch  # after rnode_dyn, which lets Lightning import beside a CPU torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

SOLVERS = {
    "RK4, 100 steps": Solver(RK4(), FixedStep(0.01)),
    "Tsit5, 1e-5, common steps": Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5)),
    "Tsit5, 1e-5, steps by sample": Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5, per_sample=True)),
}


class Lorenz(nn.Module):
    """A Lorenz system whose parameters are near the usual ones."""

    def __init__(self) -> None:
        super().__init__()
        usual = torch.tensor([10.0, 28.0, 8 / 3])
        self.coefficients = nn.Parameter(usual * (1 + 0.1 * torch.randn(3)))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return dx/dt."""
        (a, b, c), (s, r, q) = x.unbind(-1), self.coefficients.unbind(-1)
        return torch.stack([s * (b - a), a * (r - c) - b, a * b - q * c], -1)


@torch.no_grad()
def compare(solver: Solver, systems: list[nn.Module]) -> tuple[float, float, float]:
    """Return the seconds of the loop and of the ensemble, and how far apart they are."""
    stack = torch.func.stack_module_state(systems)
    problems = [ODEProblem(system, torch.ones(1, 3), (0.0, 1.0)) for system in systems]
    begin = time.perf_counter()
    alone = torch.stack([solve(problem, solver, save_at=[1.0]).x[0] for problem in problems])
    between = time.perf_counter()
    together = solve_ensemble(problems[0], solver, stack, save_at=[1.0]).x[0]
    end = time.perf_counter()
    apart = float((alone - together).abs().max() / alone.abs().max())
    return between - begin, end - between, apart


def main(members: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    systems: list[nn.Module] = [Lorenz() for _ in range(members)]
    table = Table("solver", "loop, s", "ensemble, s", "ratio", "apart")
    for name, solver in SOLVERS.items():
        loop, ensemble, apart = compare(solver, systems)
        ratio = f"{loop / ensemble:.0f}"
        table.add_row(name, f"{loop:.1f}", f"{ensemble:.2f}", ratio, f"{apart:.0e}")
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("members", nargs="?", type=int, default=1000)
    main(**vars(parser.parse_args()))
