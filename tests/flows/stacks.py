"""Multiscale flows of every make, each with an index walk through it that is done by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import nn

from rnode_dyn import ExactDivergence, MultiscaleFlow, RegularizedFlow, Scale, Solver
from tests.flows.cases import FINE

MakeField = Callable[[tuple[int, ...]], nn.Module]


@dataclass(frozen=True)
class Floor:
    """One scale: end times of its blocks before and after the squeeze, and whether it splits."""

    before: tuple[float, ...]
    after: tuple[float, ...] = ()
    squeeze: bool = False
    split: bool = False


@dataclass(frozen=True)
class Stack:
    """A multiscale flow in words."""

    event: tuple[int, ...]
    floors: Sequence[Floor]

    def build(self, make_field: MakeField, solver: Solver = FINE) -> MultiscaleFlow:
        """Build the flow; ``make_field`` is given the shape that each block sees."""
        shapes = iter(layout.shape for layout in self.layouts())

        def blocks(end_times: Sequence[float]) -> list[RegularizedFlow]:
            return [
                RegularizedFlow(make_field(next(shapes)), solver, ExactDivergence(), end_time=t)
                for t in end_times
            ]

        scales = [
            Scale(blocks(floor.before), blocks(floor.after), floor.squeeze, floor.split)
            for floor in self.floors
        ]
        return MultiscaleFlow(self.event, scales)

    def layouts(self) -> list[np.ndarray]:
        """Which data coordinates each block sees, and where, entry by entry."""
        found, indices = [], np.arange(prod(self.event)).reshape(self.event)
        for floor in self.floors:
            found += [indices] * len(floor.before)
            indices = squeezed(indices) if floor.squeeze else indices
            found += [indices] * len(floor.after)
            indices = indices[: len(indices) // 2] if floor.split else indices
        return found

    def exits(self) -> list[int]:
        """After how many blocks each data coordinate leaves."""
        seen = [set(layout.ravel().tolist()) for layout in self.layouts()]
        return [max(k + 1 for k, s in enumerate(seen) if d in s) for d in range(prod(self.event))]

    @property
    def end_times(self) -> list[float]:
        """End time of every block."""
        return [t for floor in self.floors for t in (*floor.before, *floor.after)]


def squeezed(image: np.ndarray) -> np.ndarray:
    """Turn each 2×2 patch into four channels, one entry at a time."""
    channels, height, width = image.shape
    out = np.empty((4 * channels, height // 2, width // 2), dtype=image.dtype)
    for c, i, j in np.ndindex(channels, height, width):
        out[4 * c + 2 * (i % 2) + j % 2, i // 2, j // 2] = image[c, i, j]
    return out


STACKS: dict[str, Stack] = {
    "one block": Stack((3,), [Floor((1.0,))]),
    "one block, longer": Stack((3,), [Floor((2.5,))]),
    "vectors, no split": Stack((4,), [Floor((1.0, 0.5, 2.0))]),
    "vectors, one split": Stack((4,), [Floor((0.7,), split=True), Floor((1.6,))]),
    "vectors, two splits": Stack(
        (8,), [Floor((1.0, 3.0), split=True), Floor((1.0,), split=True), Floor((0.5, 0.25))]
    ),
    "image, no split": Stack((1, 4, 4), [Floor((1.0,), (1.0,), squeeze=True), Floor((1.0,))]),
    "image, one split": Stack(
        (1, 4, 4), [Floor((1.0,), (2.0,), squeeze=True, split=True), Floor((0.5,))]
    ),
    "image, two splits": Stack(
        (1, 8, 4),
        [
            Floor((1.0, 1.0), (1.0, 0.5), squeeze=True, split=True),
            Floor((1.5,), (), squeeze=True, split=True),
            Floor((2.0, 2.0)),
        ],
    ),
    "colours, squeezed at once": Stack(
        (3, 4, 4), [Floor((), (1.0,), squeeze=True, split=True), Floor((1.0,), squeeze=True)]
    ),
}
