"""A digits classifier with a neural ODE inside: evaluations and accuracy, with penalties and not.

`python benchmarks/layers.py [SEEDS] [EPOCHS]` trains both on scikit-learn's digits for every seed
and prints a table; the evaluations are those of an adaptive solve of the test digits.
"""

import argparse
import statistics
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from rnode_dyn import (
    AdaptiveStep,
    JacobianFrobenius,
    KineticEnergy,
    MLPField,
    RegularizedODE,
    Regularizer,
    Solver,
    Tsit5,
    penalty,
)

BATCH = 128
SOLVER = Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5))
PENALTIES: dict[str, list[Regularizer]] = {
    "none": [],
    "kinetic energy, 10": [KineticEnergy(10.0)],
    "and Jacobian, 0.1": [KineticEnergy(10.0), JacobianFrobenius(0.1)],
}


class Split(NamedTuple):
    """Digits, their labels, and those to test with."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


class Outcome(NamedTuple):
    """What a trained classifier costs and gets right on the test digits."""

    evaluations: int
    accuracy: float


def digits(seed: int) -> Split:
    """Return 1437 digits to train with and 360 to test with, pixels between 0 and 1."""
    images, labels = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(
        images / 16, labels, test_size=0.2, random_state=seed, stratify=labels
    )
    numbers = (torch.tensor(a, dtype=torch.float32) for a in (x, test_x))
    classes = (torch.tensor(a) for a in (y, test_y))
    (x, test_x), (y, test_y) = numbers, classes
    return Split(x, y, test_x, test_y)


def train(data: Split, regularizers: list[Regularizer], seed: int, epochs: int) -> Outcome:
    """Train a classifier, and test it."""
    torch.manual_seed(seed)
    layer = RegularizedODE(MLPField(64, hidden=(64, 64)), SOLVER, regularizers)
    network = nn.Sequential(layer, nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(data.x)).split(BATCH):
            loss = functional.cross_entropy(network(data.x[rows]), data.y[rows]) + penalty(network)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        right = network.eval()(data.test_x).argmax(1) == data.test_y
    return Outcome(layer.stats.nfe, right.double().mean().item())


def main(seeds: int, epochs: int) -> None:
    """Print a line for every choice of penalties."""
    print("| penalties | evaluations | of those without | accuracy, % |\n|---|---:|---:|---:|")
    without = None
    for name, regularizers in PENALTIES.items():
        outcomes = [train(digits(seed), regularizers, seed, epochs) for seed in range(seeds)]
        evaluations = statistics.mean(o.evaluations for o in outcomes)
        without = without or evaluations
        shown = [100 * o.accuracy for o in outcomes]
        spread = f"{statistics.mean(shown):.2f} ± {statistics.pstdev(shown):.2f}"
        print(
            f"| {name} | {evaluations:.1f} | {evaluations / without:.0%} | {spread} |", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="?", type=int, default=5)
    parser.add_argument("epochs", nargs="?", type=int, default=30)
    main(**vars(parser.parse_args()))
