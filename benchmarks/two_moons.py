"""sbibm's two moons: the posterior p(θ | x) by a conditional flow, scored by C2ST.

The ten observations and their reference posteriors are those of the package sbibm (Lueckmann et
al., Benchmarking simulation-based inference, 2021), of which nothing but these files is used:

    pip download sbibm==1.1.0 --no-deps -d sbibm && unzip sbibm/*.whl -d sbibm
    python benchmarks/two_moons.py sbibm/sbibm --seeds 3

C2ST is the held-out accuracy of a classifier between samples of the flow and of the reference:
0.5 where nothing tells them apart. The classifier is sbibm's: two hidden layers of 20 units, on
samples standardised by the reference, in five folds.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rnode_dyn import (
    RK4,
    FixedStep,
    FlowDistribution,
    FlowMatching,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
    Standardize,
)
from rnode_dyn.flows.straight_paths import Leg

SIMULATIONS = 10_000


def simulate(count: int) -> tuple[Tensor, Tensor]:
    """Draw parameters from the prior and data given them, ``(count, 2)`` each."""
    theta = 2 * torch.rand(count, 2) - 1
    angle = torch.pi * (torch.rand(count) - 0.5)
    radius = 0.1 + 0.01 * torch.randn(count)
    shift = torch.stack([-theta.sum(1).abs(), theta[:, 1] - theta[:, 0]], dim=1) / 2**0.5
    crescent = torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], dim=1)
    return theta, crescent + shift


def units_of(rows: Tensor) -> Standardize:
    """What brings columns to mean 0 and deviation 1."""
    return Standardize(rows.mean(0), rows.std(0))


def build(theta: Tensor, x: Tensor, width: int, depth: int) -> MultiscaleFlow:
    """A flow of parameters, conditional on data; the units of both are part of it."""
    field = MLPField(2, hidden=(width,) * depth, activation="silu", condition=2, embedding=width)
    block = RegularizedFlow(field, Solver(RK4(), FixedStep(0.05)))
    return MultiscaleFlow((2,), [Scale([block])], units_of(theta), units_of(x))


class NearTheData(FlowMatching):
    """Matches more often near the data, where thin shapes are told apart (Dax et al. 2023)."""

    def draw_times(self, leg: Leg, data: Tensor) -> Tensor:
        """Return the squares of times drawn evenly."""
        return super().draw_times(leg, data).square()


def train(flow: nn.Module, theta: Tensor, x: Tensor, given: argparse.Namespace) -> int:
    """Match the flow for so many seconds of CPU time; return the steps."""
    objective = NearTheData()
    optimizer = torch.optim.AdamW(flow.parameters(), given.rate, weight_decay=given.decay)
    average = AveragedModel(flow, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    start, steps, done = time.process_time(), 0, 0.0
    while done < 1:
        for rows in torch.randperm(len(theta)).split(given.batch):
            done = (time.process_time() - start) / given.seconds
            for group in optimizer.param_groups:
                group["lr"] = given.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
            optimizer.zero_grad()
            objective.loss(flow, theta[rows], condition=x[rows]).value.backward()
            optimizer.step()
            average.update_parameters(flow)
            steps += 1
    flow.load_state_dict(average.module.state_dict())
    return steps


def posterior(flow: nn.Module, observation: Tensor, count: int) -> Tensor:
    """Draw from p(θ | x); what lies beyond the prior, where there is none, is drawn anew."""
    distribution, found = FlowDistribution(flow, (2,)).given(observation), torch.empty(0, 2)
    while len(found) < count:
        drawn = distribution.sample((count,))
        found = torch.cat([found, drawn[(drawn.abs() <= 1).all(1)]])
    return found[:count]


def reference(folder: Path, number: int) -> tuple[Tensor, np.ndarray]:
    """An observation ``(2,)`` and samples of its posterior ``(10000, 2)``."""
    files = folder / "tasks" / "two_moons" / "files" / f"num_observation_{number}"
    observation = np.loadtxt(files / "observation.csv", delimiter=",", skiprows=1)
    samples = np.loadtxt(files / "reference_posterior_samples.csv.bz2", delimiter=",", skiprows=1)
    return torch.as_tensor(observation, dtype=torch.float32), samples


def c2st(samples: np.ndarray, wanted: np.ndarray, folds: int) -> float:
    """Held-out accuracy of a classifier between two sets of samples."""
    rows = (np.concatenate([samples, wanted]) - wanted.mean(0)) / wanted.std(0)
    labels = np.repeat([0, 1], [len(samples), len(wanted)])
    order = np.random.default_rng(1).permutation(len(rows))
    classifier = MLPClassifier((20, 20), max_iter=1000, random_state=1)
    scores = cross_val_score(classifier, rows[order], labels[order], cv=folds)
    return float(scores.mean())


def main() -> None:
    """Train with each seed, and score all observations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the package's folder, with tasks/two_moons")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU time, to train")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--folds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    scores = []
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        theta, x = simulate(SIMULATIONS)
        flow = build(theta, x, given.width, given.depth)
        steps = train(flow, theta, x, given)
        for number in range(1, given.observations + 1):
            observation, wanted = reference(given.folder, number)
            samples = posterior(flow, observation, given.samples).numpy()
            scores.append(c2st(samples, wanted[: given.samples], given.folds))
            print(f"seed {seed}  {steps} steps  observation {number}: {scores[-1]:.3f}", flush=True)
    print(f"C2ST, mean of {len(scores)}: {np.mean(scores):.4f}")


if __name__ == "__main__":
    main()
