"""What is regressed on, how errors are weighed and who steps: flow matching on 14×14 digits.

    python benchmarks/matching.py --root data --seeds 1 --steps 300

A U-Net behind three bells is matched for so many steps in each way, which has what the one before
it has and one thing more. Prints bits/dim by eight steps of RK4 on test digits, the same digits and
noise for all, and CPU seconds of one thread.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch
from digits import Digits
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rnode_dyn import (
    RK4,
    FixedStep,
    FlowMatching,
    MultiscaleFlow,
    Muon,
    Solver,
)

WARM_UP = 100


@dataclass(frozen=True)
class Way:
    """A way of matching.

    Attributes:
        objective: What is minimised.
        skip: Whether the field has the velocity between normal samples.
        optimizer: What steps.
    """

    objective: FlowMatching
    skip: bool = False
    optimizer: Callable[..., Optimizer] = torch.optim.Adam


def matching(**given: Any) -> FlowMatching:
    """Flow matching with times near the data."""
    return FlowMatching(times="near-data", **given)


ALL: dict[str, Any] = {"weighting": "likelihood", "targets": "expected"}
WAYS = {
    "even, drawn": Way(matching()),
    "weighted as in the likelihood": Way(matching(weighting="likelihood")),
    "and expected": Way(matching(**ALL)),
    "and a skip": Way(matching(**ALL), skip=True),
    "and Muon": Way(matching(**ALL), skip=True, optimizer=Muon),
}


def train(task: Digits, way: Way, steps: int, rate: float) -> tuple[MultiscaleFlow, float]:
    """Return the flow of averaged weights, and the CPU seconds that it took."""
    flow = task.flow().train()
    optimizer = way.optimizer(flow.parameters(), lr=rate)
    averaged = AveragedModel(flow, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    began = time.process_time()
    for step, u in zip(range(steps), task.batches(32), strict=False):
        optimizer.param_groups[0]["lr"] = rate * factor(step, steps)
        optimizer.zero_grad()
        way.objective.loss(flow, u, task.splits.event).value.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(flow)
    return averaged.module, time.process_time() - began  # type: ignore[return-value]


def factor(step: int, steps: int) -> float:
    """A warm-up, and then a cosine down to 0."""
    left = max(0.0, (step - WARM_UP) / max(1, steps - WARM_UP))
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * left))


def spread(values: Iterable[float]) -> str:
    """Mean, and deviation where there are several."""
    known = list(values)
    return f"{mean(known):.4f}" + (f" ± {stdev(known):.4f}" if len(known) > 1 else "")


def main() -> None:
    """Match in all ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--points", type=int, default=1000, help="test digits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| way | bits/dim | CPU seconds |")
    print("|---|---:|---:|")
    for name, way in WAYS.items():
        bits, seconds = [], []
        for seed in range(given.seeds):
            skip = f"model.field.skip={str(way.skip).lower()}"
            task = Digits(given.root, seed, given.points, (skip,))
            flow, took = train(task, way, given.steps, given.rate)
            bits.append(task.bits(flow, Solver(RK4(), FixedStep(1 / 8))))
            seconds.append(took)
        print(f"| {name} | {spread(bits)} | {mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
