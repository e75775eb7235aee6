"""What each way to differentiate a solve costs: time, evaluations, memory at 4 and 64 steps.

    python benchmarks/sensitivities.py

Times are ratios of medians, the sensitivities taking turns. Memory is how far the resident
memory rises in one forward and backward pass, each in a process of its own (Linux only).
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from rnode_dyn import (
    RK4,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    ConvField,
    DiscreteAdjoint,
    FixedStep,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    JacobianFrobenius,
    KineticEnergy,
    RegularizedFlow,
    ReversibleAdjoint,
    Sensitivity,
    Solver,
)

SENSITIVITIES: dict[str, Sensitivity] = {
    "DiscreteAdjoint()": DiscreteAdjoint(),
    "CheckpointedAdjoint()": CheckpointedAdjoint(),
    "CheckpointedAdjoint(every=4)": CheckpointedAdjoint(every=4),
    "BacksolveAdjoint()": BacksolveAdjoint(),
    "InterpolatingAdjoint()": InterpolatingAdjoint(),
    "ReversibleAdjoint()": ReversibleAdjoint(),
}
STEPS = 8
FEW, MANY = 4, 64
ROUNDS = 7


def make_flow(sensitivity: Sensitivity, steps: int) -> RegularizedFlow:
    """Return a flow of images with both penalties and so many RK4 steps."""
    torch.manual_seed(0)
    flow = RegularizedFlow(
        ConvField(channels=4, hidden=(32, 32)),
        Solver(RK4(), FixedStep(1 / steps), sensitivity),
        HutchinsonDivergence("rademacher"),
        [KineticEnergy(0.01), JacobianFrobenius(0.01)],
    )
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return flow


def forward_and_backward(flow: RegularizedFlow, batch: int) -> None:
    """Differentiate a loss of everything that the flow returns."""
    z, log_det, penalties = flow(torch.randn(batch, 4, 16, 16))
    weighted = torch.as_tensor(flow.weigh(penalties)).sum()
    (z.square().sum() - log_det.sum() + weighted).backward()


def resident_megabytes(key: str) -> float:
    """Memory of this process as Linux counts it: ``VmRSS`` now, ``VmHWM`` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def report_memory(name: str, steps: int) -> None:
    """Print how far one forward and backward pass raises this process's peak."""
    forward_and_backward(make_flow(SENSITIVITIES[name], 1), batch=1)
    before = resident_megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh from here
    forward_and_backward(make_flow(SENSITIVITIES[name], steps), batch=16)
    print(resident_megabytes("VmHWM") - before)


def measure_memory(name: str, steps: int) -> float:
    """Run :func:`report_memory` in a process of its own."""
    command = [sys.executable, __file__, "--memory", name, "--steps", str(steps)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_times() -> dict[str, float]:
    """Return the median seconds of each sensitivity; they take turns."""
    flows = {name: make_flow(kind, STEPS) for name, kind in SENSITIVITIES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in flows}
    for _ in range(ROUNDS):
        for name, flow in flows.items():
            start = time.perf_counter()
            forward_and_backward(flow, batch=16)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def count_evaluations(sensitivity: Sensitivity) -> tuple[int, int]:
    """Return the evaluations of the forward and of the backward pass."""
    flow = make_flow(sensitivity, STEPS)
    forward_and_backward(flow, batch=1)
    return flow.stats.nfe, flow.stats.nfe_backward


def print_table() -> None:
    """Measure everything and print it."""
    table = Table("sensitivity", "time", "forward nfe", "backward nfe", box=None)
    table.add_column(f"MB at {FEW} steps", justify="right")
    table.add_column(f"MB at {MANY} steps", justify="right")
    times = measure_times()
    for name, sensitivity in SENSITIVITIES.items():
        ratio = times[name] / times["DiscreteAdjoint()"]
        memory = [measure_memory(name, steps) for steps in (FEW, MANY)]
        evaluations = count_evaluations(sensitivity)
        table.add_row(name, f"{ratio:.2f}", *map(str, evaluations), *(f"{m:.0f}" for m in memory))
    Console(width=110).print(table)


def main() -> None:
    """Print the table, or in a process of its own the memory of one sensitivity."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", choices=SENSITIVITIES, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory is None:
        print_table()
    else:
        report_memory(arguments.memory, arguments.steps)


if __name__ == "__main__":
    main()
