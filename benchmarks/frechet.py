"""How far a flow's digits are from real ones: Fréchet distance in a small classifier's features.

    python benchmarks/frechet.py runs/mnist-unet-… --root data --samples 2000

The classifier is trained here, in about a minute of a core, and its accuracy on the test digits
is printed: distances by another one are other numbers, and none is an FID. The floor is as many
real training digits against the same test digits.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn import load_data, load_run

FEATURES = 64


def classifier(channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Three convolutions and two layers; what the first of the two finds are the features."""
    widths = [channels, 16, 32, 64]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, FEATURES), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(FEATURES, classes))


def trained(net: nn.Sequential, shades: Tensor, labels: Tensor, steps: int) -> nn.Sequential:
    """Train a classifier by Adam, its rate falling to 0."""
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(shades), (128,))
        optimizer.zero_grad()
        F.cross_entropy(net(shades[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def features(net: nn.Sequential, shades: Tensor) -> np.ndarray:
    """Return what the layer before the last one finds, ``(n, 64)``."""
    return torch.cat([net[:-2](part) for part in shades.split(500)]).double().numpy()


@torch.no_grad()
def accuracy(net: nn.Sequential, shades: Tensor, labels: Tensor) -> float:
    """Return the share of labels that a classifier gets right."""
    found = torch.cat([net(part).argmax(1) for part in shades.split(500)])
    return float((found == labels).double().mean())


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of two sets of features (Heusel et al. 2017)."""
    means = one.mean(0) - other.mean(0)
    first, second = np.cov(one.T), np.cov(other.T)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    # The eigenvalues of Σ₁Σ₂ are those of Σ₁^½ Σ₂ Σ₁^½, which is symmetric.
    common = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    return float(means @ means + np.trace(first + second) - 2 * common)


def check_like(u: Tensor, side: int) -> None:
    """Refuse samples that the classifier has never seen the like of; it takes any size."""
    if tuple(u.shape[1:]) != (1, side, side):
        shape = "×".join(map(str, u.shape[1:]))
        raise SystemExit(f"samples are {shape}, and the classifier's digits 1×{side}×{side}.")
    if not bool(u.isfinite().all()):
        raise SystemExit("some samples are not finite: they have no distance.")


def shades_of(pixels: Tensor) -> Tensor:
    """Return pixels from 0 to 255 as numbers from 0 to 1."""
    return pixels.float() / 255


class Judge:
    """A trained classifier, and the real digits that samples are compared with."""

    def __init__(self, root: str, side: int, steps: int = 1000, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.side = side
        splits = load_data("mnist", root=root, image_size=side, condition="label")
        assert splits.conditions is not None
        train, test = (shades_of(s.head(len(s))) for s in (splits.train, splits.test))
        self.net = trained(classifier(), train, splits.conditions.train, steps)
        self.accuracy = accuracy(self.net, test, splits.conditions.test)
        self.train, self.real = train, features(self.net, test)

    def floor(self, count: int) -> float:
        """Return the distance of so many real training digits."""
        if count > len(self.train):
            raise SystemExit(f"--samples is {count}: there are {len(self.train)} real ones.")
        return frechet_distance(features(self.net, self.train[:count]), self.real)

    def distance(self, u: Tensor) -> float:
        """Return that of samples, points of the unit cube about."""
        check_like(u, self.side)
        shades = (u * 256).floor().clamp(0, 255) / 255
        return frechet_distance(features(self.net, shades.float()), self.real)


def main() -> None:
    """Print the classifier's accuracy, the floor, and the distance of each run's samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--root", default="data")
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--guidance", type=float)
    given = parser.parse_args()
    if given.samples < 2:
        parser.error(f"--samples is {given.samples}: a covariance takes 2 or more")
    judge = Judge(given.root, given.side)
    print(f"classifier: {judge.accuracy:.2%} of the test digits right")
    print(f"{given.samples} real digits: {judge.floor(given.samples):.3f}")
    for path in given.runs:
        run = load_run(path)
        distribution = run.distribution(given.temperature, given.guidance)
        if run.flow.takes_condition:
            labels = torch.arange(given.samples) % 10
            samples = [distribution.given(part).sample() for part in labels.split(100)]
        else:
            sizes = torch.arange(given.samples).split(100)
            samples = [distribution.sample((len(part),)) for part in sizes]
        print(f"{path}: {judge.distance(torch.cat(samples)):.3f}")


if __name__ == "__main__":
    main()
