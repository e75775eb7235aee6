"""Evaluations and errors of the adaptive algorithms, beside torchdiffeq's of the same name.

    python benchmarks/algorithms.py

Lotka-Volterra over five units of time in float64; the error is the largest at the end, against
SciPy's DOP853 at 1e-13.
"""

import torch
import torchdiffeq
from rich.console import Console
from rich.table import Table
from scipy.integrate import solve_ivp
from torch import Tensor

from rnode_dyn import (
    AdaptiveHeun,
    AdaptiveStep,
    Bosh3,
    Dopri5,
    Dopri8,
    ExplicitRungeKutta,
    ODEProblem,
    Solver,
    Tsit5,
    solve,
)

START = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
SPAN = (0.0, 5.0)
ALGORITHMS = [AdaptiveHeun(), Bosh3(), Dopri5(), Tsit5(), Dopri8()]
THEIRS = {"AdaptiveHeun": "adaptive_heun", "Bosh3": "bosh3", "Dopri5": "dopri5", "Dopri8": "dopri8"}
TOLERANCES = (1e-3, 1e-4, 1e-6)


class LotkaVolterra(torch.nn.Module):
    """Prey and predator; counts its evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return dx/dt."""
        self.evaluations += 1
        prey, predator = x.unbind(-1)
        return torch.stack([prey * (1.5 - predator), predator * (prey - 3.0)], dim=-1)


def reference() -> Tensor:
    """Return the end, as SciPy has it."""
    solution = solve_ivp(
        lambda t, x: [x[0] * (1.5 - x[1]), x[1] * (x[0] - 3.0)],
        SPAN,
        START[0].tolist(),
        method="DOP853",
        rtol=1e-13,
        atol=1e-13,
    )
    return torch.tensor(solution.y[:, -1])


def by_us(algorithm: ExplicitRungeKutta, tolerance: float) -> tuple[int, float]:
    """Return our evaluations and error."""
    solver = Solver(algorithm, AdaptiveStep(tolerance, tolerance, max_steps=100_000))
    solution = solve(ODEProblem(LotkaVolterra(), START, SPAN), solver)
    return solution.stats.nfe, float((solution.x[-1, 0] - reference()).abs().max())


def by_torchdiffeq(name: str, tolerance: float) -> tuple[int, float]:
    """Return torchdiffeq's evaluations and error."""
    field, times = LotkaVolterra(), torch.tensor(SPAN, dtype=torch.float64)
    x = torchdiffeq.odeint(field, START, times, rtol=tolerance, atol=tolerance, method=name)
    return field.evaluations, float((x[-1, 0] - reference()).abs().max())  # type: ignore[index]


def main() -> None:
    """Measure and print."""
    table = Table("algorithm", "tolerance", "nfe", "error", "theirs", "their error", box=None)
    for algorithm in ALGORITHMS:
        for tolerance in TOLERANCES:
            ours, error = by_us(algorithm, tolerance)
            row = [algorithm.name, f"{tolerance:.0e}", str(ours), f"{error:.1e}"]
            if algorithm.name in THEIRS:
                theirs, their_error = by_torchdiffeq(THEIRS[algorithm.name], tolerance)
                row += [str(theirs), f"{their_error:.1e}"]
            table.add_row(*row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
