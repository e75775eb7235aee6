"""How near a training step of the MNIST model is to what convolutions alone take on this CPU.

    python benchmarks/floor.py

Prints the share of a step of eight samples that torch's profiler finds within convolutions, how
fast they run there, and how fast a convolution of 64 channels runs by itself, forward and back, in
single precision and in bfloat16; one thread.
"""

import statistics
import time
from collections.abc import Callable

import torch
from step_rows import ROWS
from steps import operations
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

BATCH, CHANNELS, SIDE, TURNS = 8, 64, 28, 7
OPERATIONS = 2 * BATCH * SIDE**2 * CHANNELS**2 * 9
STEP = next(row for row in ROWS if row.name == f"mnist recipe, batch {BATCH}")


def in_step() -> str:
    """Profile a step, and say what its convolutions take of it."""
    step = STEP.build(torch.float32, BATCH).ours
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    taken = [(event.key, event.self_cpu_time_total / 1e6) for event in profiled.key_averages()]
    whole = sum(seconds for _, seconds in taken)
    within = sum(seconds for name, seconds in taken if "conv" in name)
    rate = operations(STEP, "ours") / within
    return f"{within / whole:.0%} of {whole:.2f} s are within convolutions, at {rate:.0f} GFLOP/s"


def alone(dtype: torch.dtype) -> str:
    """Time a convolution by itself."""
    draw = lambda *shape: torch.randn(*shape).to(dtype).to(memory_format=torch.channels_last)  # noqa: E731
    x = draw(BATCH, CHANNELS, SIDE, SIDE).requires_grad_()
    weight = draw(CHANNELS, CHANNELS, 3, 3).requires_grad_()
    y = F.conv2d(x, weight, padding=1)
    grad = torch.ones_like(y)
    forward = _rate(OPERATIONS, lambda: F.conv2d(x.detach(), weight.detach(), padding=1))
    back = _rate(
        2 * OPERATIONS, lambda: torch.autograd.grad(y, (x, weight), grad, retain_graph=True)
    )
    return f"{dtype} alone: {forward:.0f} GFLOP/s forward, {back:.0f} back"


def _rate(operations: int, work: Callable[[], object]) -> float:
    taken = []
    for _ in range(TURNS + 1):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return operations / statistics.median(taken[1:]) / 1e9


def main() -> None:
    """Print the lines."""
    torch.set_num_threads(1)
    print(in_step())
    print(alone(torch.float32))
    print(alone(torch.bfloat16))


if __name__ == "__main__":
    main()
