"""What a condition costs: a training step of a conditional flow over that without one, same width.

    python benchmarks/conditions.py --rounds 21

Both take turns in one process; a ratio is of the CPU times of one turn, given as the median with
the smallest and the largest. The conditional flow has what its embedding adds: a linear map of the
condition in every layer, made once for a solve.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    ConvField,
    FixedStep,
    FlowMatching,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MLPField,
    RegularizedFlow,
    Solver,
)

WIDTHS = (128, 128)


class Case(NamedTuple):
    """A step with and without a condition."""

    name: str
    field: Callable[..., nn.Module]
    given: dict[str, int]
    data: Tensor
    condition: Tensor
    objective: Likelihood | FlowMatching


def cases() -> list[Case]:
    """Vectors of numbers and labels, solved and matched."""
    vectors, numbers = torch.randn(256, 64), torch.randn(256, 16)
    images, labels = torch.randn(8, 1, 14, 14), torch.randint(10, (8,))
    mlp = lambda **given: MLPField(64, WIDTHS, **given)  # noqa: E731
    conv = lambda **given: ConvField(1, **given)  # noqa: E731
    return [
        Case("MLP 64-D, 16 numbers", mlp, {"condition": 16}, vectors, numbers, Likelihood()),
        Case("the same, matching", mlp, {"condition": 16}, vectors, numbers, FlowMatching()),
        Case("1×14×14 block, 10 classes", conv, {"classes": 10}, images, labels, Likelihood()),
    ]


def step_of(case: Case, conditional: bool) -> Callable[[], None]:
    """Return a training step: the loss and its gradient."""
    torch.manual_seed(0)
    field = case.field(**case.given) if conditional else case.field()
    flow = RegularizedFlow(
        field,
        Solver(RK4(), FixedStep(0.25)),
        regularizers=[KineticEnergy(0.01), JacobianFrobenius(0.01)],
    )
    condition = case.condition if conditional else None

    def step() -> None:
        flow.zero_grad()
        case.objective.loss(flow, case.data, condition=condition).value.backward()

    return step


def seconds(step: Callable[[], None]) -> float:
    """CPU seconds of a step."""
    start = time.process_time()
    step()
    return time.process_time() - start


def main() -> None:
    """Let both take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for case in cases():
        steps = [step_of(case, conditional) for conditional in (True, False)]
        turns = [[seconds(step) for step in steps] for _ in range(given.rounds + 2)][2:]
        ratios = [ours / plain for ours, plain in turns]
        of_turns = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} … {max(ratios):.3f})"
        ours, plain = (statistics.median(column) for column in zip(*turns, strict=True))
        print(f"{case.name}: {of_turns}, {ours * 1e3:.3g} / {plain * 1e3:.3g} ms", flush=True)


if __name__ == "__main__":
    main()
