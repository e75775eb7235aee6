"""Samples of unnormalised densities: how near a flow comes to them, and log Z.

    python benchmarks/energies.py ring --seeds 3
    python benchmarks/energies.py modes --picture modes.png
    python benchmarks/energies.py mixture

``ring`` is the energy of zuko's tutorial on training from an energy; its log Z is known by
quadrature. ``modes`` are 16 normal distributions on a grid in the plane, of deviation 0.25 and 2
apart, with equal weights; a mode counts as found where it has at least half of its share of the
samples. ``mixture`` has three normal distributions in 10 dimensions. The last two have log Z = 0.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from rnode_dyn import (
    RK4,
    Energy,
    ExactDivergence,
    FixedStep,
    Importance,
    KineticEnergy,
    MLPField,
    RegularizedFlow,
    Solver,
    Tempered,
    importance,
    plot,
)


@dataclass(frozen=True)
class Task:
    """A density, and how a flow is trained for it."""

    log_density: Callable[[Tensor], Tensor]
    dims: int
    log_z: float
    hottest: float
    steps: int
    samples: int = 256
    hidden: tuple[int, ...] = (64, 64)


def ring(x: Tensor) -> Tensor:
    """Return sin(πx₁) − 2(‖x‖² − 2)²."""
    return torch.sin(torch.pi * x[:, 0]) - 2 * (x.square().sum(1) - 2).square()


def mixture_of(centres: Tensor, deviation: float) -> MixtureSameFamily:
    """Normal distributions around centres ``(n, dims)``, all of one deviation and weight."""
    parts = Independent(Normal(centres, deviation, validate_args=False), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(centres))), parts, validate_args=False)


AXIS = torch.tensor([-3.0, -1.0, 1.0, 3.0])
GRID = torch.cartesian_prod(AXIS, AXIS)
CORNERS = torch.eye(10)[:3] * 3

TASKS = {
    "ring": Task(ring, 2, 1.6120, hottest=10.0, steps=1500),
    "modes": Task(mixture_of(GRID, 0.25).log_prob, 2, 0.0, hottest=30.0, steps=1000),
    "mixture": Task(mixture_of(CORNERS, 0.7).log_prob, 10, 0.0, hottest=5.0, steps=400),
}


def train(task: Task) -> RegularizedFlow:
    """Train a flow while the temperature falls, for half of the steps, and at 1 for the rest."""
    flow = RegularizedFlow(
        MLPField(task.dims, task.hidden, activation="tanh"),
        Solver(RK4(), FixedStep(0.2)),
        ExactDivergence(),
        [KineticEnergy(0.01)],
        eval_solver=Solver(RK4(), FixedStep(0.05)),
    )
    tempered = Tempered(task.log_density, task.hottest, task.steps // 2)
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    warm = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1, (i + 1) / 20) * 0.5 * (1 + math.cos(math.pi * i / task.steps)),
    )
    for step in range(task.steps):
        optimizer.zero_grad()
        tempered.at(step).loss(flow, task.samples).value.backward()
        optimizer.step()
        warm.step()
    return flow.eval()


def modes_found(samples: Tensor) -> int:
    """How many modes of the grid have at least half of their share of the samples."""
    nearest = torch.cdist(samples, GRID).argmin(1)
    return int((nearest.bincount(minlength=16) >= len(samples) / 32).sum())


def said(name: str, flow: RegularizedFlow, found: Importance) -> str:
    """What is measured of a trained flow."""
    task = TASKS[name]
    with torch.no_grad():
        loss = Energy(task.log_density).loss(flow, 5000).figures["reverse_kl"]
    off = (found.log_z - task.log_z) / found.log_z_stderr
    modes = f", modes found {modes_found(found.samples)} of 16" if name == "modes" else ""
    return (
        f"loss {float(loss):.4f} (least {-task.log_z:.4f}), log Z {found.log_z:.4f} ± "
        f"{found.log_z_stderr:.4f} ({off:+.1f} standard errors), ESS {found.ess:.3f}{modes}"
    )


def draw(flow: RegularizedFlow, samples: Tensor, path: str) -> None:
    """Draw the flow's density beside its samples."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
    plot.density(flow, ax=left)
    plot.samples(samples[:2000], ax=right)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train with each seed, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--picture", help="of the plane, from the last seed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[given.task]
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        start = time.process_time()
        flow = train(task)
        seconds = time.process_time() - start
        found = importance(flow, task.log_density, 5000)
        print(
            f"{given.task} {seed}: {said(given.task, flow, found)}, {seconds:.0f} CPU s", flush=True
        )
        if given.picture:
            draw(flow, found.samples, given.picture)


if __name__ == "__main__":
    main()
