"""Scoring against zuko's CNF: 10,000 vectors of 8 dimensions, the same network, equal accuracy.

    python benchmarks/scoring.py --rounds 5

The truth is ours in float64 at 1e-8. zuko's flow scores in float32 at 1e-5, and ours at the
loosest tolerance at which its mean error of log p is no larger, on 500 of the vectors. Then they
take turns in one process: a ratio is of the CPU times of one turn, the median given with the
smallest and the largest.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from comparison import TOLERANCE
from other_flows import DIMENSIONS, zukos
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    Dopri5,
    ExactDivergence,
    FlowDistribution,
    RegularizedFlow,
    Solver,
)

VECTORS, LOOKED_AT = 10_000, 500
TOLERANCES = tuple(TOLERANCE * 0.8**power for power in range(-5, 15))


def with_weights(dtype: torch.dtype) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """Return the network's field, and zuko's log p of it."""
    torch.manual_seed(0)
    other = zukos(dtype, TOLERANCE)
    for parameter in other.network.parameters():  # numbers of a kind are other ones in float64
        parameter.copy_(0.15 * torch.randn(parameter.shape))
    return other.field, other.log_prob


def ours(field: nn.Module, tolerance: float) -> Callable[[Tensor], Tensor]:
    """Return our log p of a field."""
    solver = Solver(Dopri5(), AdaptiveStep(tolerance, tolerance))
    flow = RegularizedFlow(field, solver, ExactDivergence()).eval()
    return FlowDistribution(flow, (DIMENSIONS,)).log_prob


def main() -> None:
    """Find the tolerance, and let both take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    x = torch.randn(VECTORS, DIMENSIONS)
    truth = ours(with_weights(torch.float64)[0], 1e-8)(x[:LOOKED_AT].double())
    field, theirs = with_weights(torch.float32)

    def error(log_prob: Callable[[Tensor], Tensor]) -> float:
        return float((log_prob(x[:LOOKED_AT]).double() - truth).abs().mean())

    wanted = error(theirs)
    found = next(t for t in TOLERANCES if error(ours(field, t)) <= wanted)
    mine = ours(field, found)
    turns = [[seconds(side, x) for side in (mine, theirs)] for _ in range(given.rounds + 1)][1:]
    ratios = [a / b for a, b in turns]
    a, b = (statistics.median(column) for column in zip(*turns, strict=True))
    print(f"mean error of log p: ours {error(mine):.1e} at {found:.0e}, zuko's {wanted:.1e}")
    of_turns = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
    print(f"ours / zuko's: {of_turns}, {a:.3g} / {b:.3g} CPU seconds")


def seconds(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """CPU seconds of scoring."""
    start = time.process_time()
    log_prob(x)
    return time.process_time() - start


if __name__ == "__main__":
    main()
