"""The 2-D densities that papers on flows draw: moons, pinwheel, checkerboard and their like.

Shapes and scales are those of the FFJORD paper's figures: all of them lie in about [-4, 4]².
Points are independent draws, also along the curves, so that the splits share no grid.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from rnode_dyn.data.conditions import Conditions
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.seeding import generator_for
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits, TensorSplit

_SIZES = {"train": 10_000, "validation": 1_000, "test": 2_000}

Draw = Callable[[int, Generator], Tensor]


def moons(count: int, generator: Generator) -> Tensor:
    """Two interleaved half circles."""
    return labelled_moons(count, generator)[0]


def labelled_moons(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """The moons, and on which each point lies: 0 for the upper, 1 for the lower."""
    angle = math.pi * torch.rand(count, generator=generator)
    lower = torch.randint(0, 2, (count,), generator=generator).bool()
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    noise = 0.1 * torch.randn(count, 2, generator=generator)
    points = 2 * (torch.stack([x, y], dim=1) + noise) + torch.tensor([-1.0, -0.2])
    return points, lower.long()


def pinwheel(count: int, generator: Generator) -> Tensor:
    """Five blades, each a long Gaussian that turns with its distance from the middle."""
    blades, rate = 5, 0.25
    blade = torch.randint(0, blades, (count,), generator=generator)
    radius = 1 + 0.3 * torch.randn(count, generator=generator)
    width = 0.1 * torch.randn(count, generator=generator)
    angle = 2 * math.pi * blade / blades + rate * radius.exp()
    x = radius * angle.cos() - width * angle.sin()
    y = radius * angle.sin() + width * angle.cos()
    return 2 * torch.stack([x, y], dim=1)


def checkerboard(count: int, generator: Generator) -> Tensor:
    """The eight dark squares of a 4×4 board."""
    column = torch.randint(0, 4, (count,), generator=generator)
    pair = torch.randint(0, 2, (count,), generator=generator)
    corner = torch.stack([column, 2 * pair + column % 2], dim=1)
    return 2 * (corner + torch.rand(count, 2, generator=generator)) - 4


def eight_gaussians(count: int, generator: Generator) -> Tensor:
    """Eight Gaussians on a circle."""
    angle = math.pi / 4 * torch.randint(0, 8, (count,), generator=generator)
    centre = 4 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return (centre + 0.5 * torch.randn(count, 2, generator=generator)) / math.sqrt(2)


def spirals(count: int, generator: Generator) -> Tensor:
    """Two spiral arms, denser towards the middle."""
    angle = 3 * math.pi * torch.rand(count, generator=generator).sqrt()
    jitter = 0.5 * torch.rand(count, 2, generator=generator)
    arm = angle[:, None] * torch.stack([-angle.cos(), angle.sin()], dim=1) + jitter
    side = 2 * torch.randint(0, 2, (count, 1), generator=generator) - 1
    return side * arm / 3 + 0.1 * torch.randn(count, 2, generator=generator)


def rings(count: int, generator: Generator) -> Tensor:
    """Four concentric circles."""
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = 0.75 * torch.randint(1, 5, (count, 1), generator=generator)
    circle = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return circle + 0.08 * torch.randn(count, 2, generator=generator)


DRAWS: dict[str, Draw] = {
    "moons": moons,
    "pinwheel": pinwheel,
    "checkerboard": checkerboard,
    "8gaussians": eight_gaussians,
    "spirals": spirals,
    "rings": rings,
}


def describe(request: DataRequest) -> Event:
    """One point of the plane."""
    return Event((2,), classes=2 if request.condition else None)


def load(request: DataRequest) -> Splits:
    """Fresh draws for each split, from a stream of their own: one's size changes no other."""
    train, validation, test = (_drawn(request, split) for split in SPLIT_NAMES)
    conditions = Conditions(train[1], validation[1], test[1]) if request.condition else None
    return Splits(
        describe(request),
        TensorSplit(train[0]),
        TensorSplit(validation[0]),
        TensorSplit(test[0]),
        conditions=conditions,
    )


def _drawn(request: DataRequest, split: str) -> tuple[Tensor, Tensor]:
    """A split's points, and their labels where the set has any; else as many zeros."""
    count = request.size_of(split) or _SIZES[split]
    generator = generator_for(request.seed, SPLIT_NAMES.index(split))
    if request.name == "moons":
        return labelled_moons(count, generator)
    return DRAWS[request.name](count, generator), torch.zeros(count, dtype=torch.long)
