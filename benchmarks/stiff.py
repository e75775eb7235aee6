"""Four stiff problems by the methods for them, against SciPy's Radau and LSODA.

    python benchmarks/stiff.py [--methods Rodas5P …] [--picture docs/assets/stiff.svg]

prints error, evaluations, Jacobians and time of each at several tolerances, and the evaluations at
an error of 1e-6, read off between them.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    Kvaerno3,
    Kvaerno5,
    ODEProblem,
    Rodas5P,
    Rosenbrock23,
    Solver,
    SolverError,
    solve,
)

TOLERANCES = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]
OURS = [Rosenbrock23(), Kvaerno3(), Kvaerno5(), Rodas5P()]
THEIRS = ["Radau", "LSODA"]
# A method of low order at a small tolerance takes longer than it is worth.
SMALLEST = {2: 1e-4, 3: 1e-5, 5: 1e-8}
MOST_STEPS = 20_000
WANTED = 1e-6


@dataclass(frozen=True)
class Stiff:
    """A stiff problem; ``small`` is the absolute tolerance over the relative one.

    ``exact`` is the tolerance of the reference.
    """

    name: str
    field: Callable[[Tensor, Tensor], Tensor]
    start: tuple[float, ...]
    end_time: float
    small: float
    exact: float = 1e-13

    def problem(self) -> ODEProblem:
        """The problem as a batch of one, in float64."""
        start = torch.tensor([self.start], dtype=torch.float64)
        return ODEProblem(self.field, start, (0.0, self.end_time))

    def scipy(self, method: str, rtol: float) -> tuple[np.ndarray, int, int, float]:
        """Solve by SciPy with the exact Jacobian: end state, evaluations, Jacobians, seconds."""
        began = time.perf_counter()
        solution = solve_ivp(
            self._values,
            (0.0, self.end_time),
            np.array(self.start),
            method=method,
            rtol=rtol,
            atol=rtol * self.small,
            jac=self._jacobian,
        )
        return solution.y[:, -1], solution.nfev, solution.njev, time.perf_counter() - began

    def _values(self, t: float, x: np.ndarray) -> np.ndarray:
        return self.field(torch.tensor(t), torch.from_numpy(x)).numpy()

    def _jacobian(self, t: float, x: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(np.array(x))
        return torch.func.jacfwd(lambda x: self.field(torch.tensor(t), x))(at).numpy()

    @cached_property
    def reference(self) -> np.ndarray:
        """The end state by Radau."""
        return self.scipy("Radau", self.exact)[0]

    def error(self, end: np.ndarray) -> float:
        """Largest error of an entry, relative to its size."""
        return float(np.max(np.abs(end - self.reference) / np.abs(self.reference)))


def robertson(t: Tensor, x: Tensor) -> Tensor:
    """Robertson's reaction (1966)."""
    a, b, c = x.unbind(-1)
    slow, middle, fast = 0.04 * a, 1e4 * b * c, 3e7 * b * b
    return torch.stack([middle - slow, slow - middle - fast, fast], -1)


def van_der_pol(t: Tensor, x: Tensor) -> Tensor:
    """Van der Pol's oscillator with μ = 1000."""
    place, velocity = x.unbind(-1)
    return torch.stack([velocity, 1000 * (1 - place * place) * velocity - place], -1)


def hires(t: Tensor, x: Tensor) -> Tensor:
    """High irradiance responses of photomorphogenesis (Schäfer 1975)."""
    y1, y2, y3, y4, y5, y6, y7, y8 = x.unbind(-1)
    bound = 280 * y6 * y8
    return torch.stack(
        [
            -1.71 * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
            1.71 * y1 - 8.75 * y2,
            -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
            8.32 * y2 + 1.71 * y3 - 1.12 * y4,
            -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
            -bound + 0.69 * y4 + 1.71 * y5 - 0.43 * y6 + 0.69 * y7,
            bound - 1.81 * y7,
            -bound + 1.81 * y7,
        ],
        -1,
    )


def oregonator(t: Tensor, x: Tensor) -> Tensor:
    """The Belousov-Zhabotinsky reaction (Field & Noyes 1974)."""
    a, b, c = x.unbind(-1)
    return torch.stack(
        [77.27 * (b + a * (1 - 8.375e-6 * a - b)), (c - (1 + a) * b) / 77.27, 0.161 * (a - c)], -1
    )


PROBLEMS = [
    Stiff("Robertson", robertson, (1.0, 0.0, 0.0), 1e5, 1e-6),
    Stiff("van der Pol, μ = 1000", van_der_pol, (2.0, 0.0), 2000.0, 1e-3),
    Stiff("HIRES", hires, (1.0, *[0.0] * 6, 0.0057), 321.8122, 1e-4),
    # At 1e-13 Radau has come to t = 23 after 120,000 evaluations; at 1e-10 it ends after 80,000,
    # within 4e-13 of the end state that the test set of Mazzia & Magherini (2008) publishes.
    Stiff("Oregonator", oregonator, (1.0, 2.0, 3.0), 360.0, 1e-2, 1e-10),
]


@dataclass(frozen=True)
class Run:
    """What a solve cost, and how far off it was."""

    method: str
    tolerance: float
    error: float
    evaluations: int
    jacobians: int
    seconds: float


def runs_of(problem: Stiff, ours: Sequence[str]) -> list[Run]:
    """Every method at every tolerance, of ours those named."""
    runs = []
    for tolerance in TOLERANCES:
        for algorithm in OURS:
            stepping = AdaptiveStep(tolerance, tolerance * problem.small, max_steps=MOST_STEPS)
            if algorithm.name not in ours or tolerance < SMALLEST[algorithm.order]:
                continue
            began = time.perf_counter()
            try:
                with torch.no_grad():
                    solution = solve(problem.problem(), Solver(algorithm, stepping))
            except SolverError as error:
                print(f"{problem.name}: {algorithm.name} at {tolerance:.0e}: {error}", flush=True)
                continue
            seconds, stats = time.perf_counter() - began, solution.stats
            error = problem.error(solution.x[-1, 0].numpy())
            runs.append(Run(algorithm.name, tolerance, error, stats.nfe, stats.njac, seconds))
        for method in THEIRS:
            end, evaluations, jacobians, seconds = problem.scipy(method, tolerance)
            error = problem.error(end)
            runs.append(Run(method, tolerance, error, evaluations, jacobians, seconds))
    return runs


def evaluations_at(runs: list[Run], method: str, wanted: float) -> float:
    """Evaluations for an error, between two runs in logarithms; the least where several do."""
    own = [r for r in runs if r.method == method and r.error > 0]
    found = []
    for looser, tighter in pairwise(own):
        if looser.error >= wanted >= tighter.error:
            share = math.log(looser.error / wanted) / math.log(looser.error / tighter.error)
            ratio = tighter.evaluations / looser.evaluations
            found.append(looser.evaluations * ratio**share)
    return min(found, default=math.nan)


def tell(console: Console, name: str, runs: list[Run]) -> None:
    """Print one problem's runs."""
    table = Table("method", "tolerance", "error", "evaluations", "Jacobians", "seconds")
    for run in sorted(runs, key=lambda r: (r.method, -r.tolerance)):
        figures = [f"{run.tolerance:.0e}", f"{run.error:.1e}", str(run.evaluations)]
        table.add_row(run.method, *figures, str(run.jacobians), f"{run.seconds:.2f}")
    console.print(name)
    console.print(table)


def tell_at_wanted(console: Console, results: dict[str, list[Run]]) -> None:
    """Print the evaluations at the wanted error."""
    methods = list(dict.fromkeys(run.method for runs in results.values() for run in runs))
    table = Table("evaluations at 1e-6", *methods)
    for name, runs in results.items():
        counts = [evaluations_at(runs, method, WANTED) for method in methods]
        table.add_row(name, *("—" if math.isnan(c) else f"{c:.0f}" for c in counts))
    console.print(table)


def draw(results: dict[str, list[Run]], path: Path) -> None:
    """Draw error against evaluations and against time."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(results), figsize=(14, 6), sharey="col")
    for column, (name, runs) in enumerate(results.items()):
        for method in dict.fromkeys(r.method for r in runs):
            own = [r for r in runs if r.method == method]
            style = "--" if method in THEIRS else "-"
            errors = [r.error for r in own]
            axes[0, column].loglog([r.evaluations for r in own], errors, style, label=method)
            axes[1, column].loglog([r.seconds for r in own], errors, style)
        axes[0, column].set(title=name, xlabel="evaluations")
        axes[1, column].set(xlabel="seconds")
    axes[0, 0].set(ylabel="relative error at the end")
    axes[1, 0].set(ylabel="relative error at the end")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Run, print, and draw where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--processes", type=int, default=1, help="problems at once")
    parser.add_argument("--methods", nargs="+", default=[a.name for a in OURS], help="of ours")
    arguments = parser.parse_args()
    console, names = Console(width=100), [problem.name for problem in PROBLEMS]
    with Pool(arguments.processes) as pool:
        asked = [(problem, arguments.methods) for problem in PROBLEMS]
        results = dict(zip(names, pool.starmap(runs_of, asked, chunksize=1), strict=True))
    for name, runs in results.items():
        tell(console, name, runs)
    tell_at_wanted(console, results)
    if arguments.picture is not None:
        draw(results, arguments.picture)


if __name__ == "__main__":
    main()
