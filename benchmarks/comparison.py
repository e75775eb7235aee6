"""What a comparison is: a step of ours and one of another implementation, with the same weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

import rnode_dyn  # noqa: F401  # lets torchvision be imported beside a CPU torch, as torchdyn will

TOLERANCE = 1e-5
"""Of adaptive steps, in single precision."""


class Outcome(NamedTuple):
    """What a step computed, and by how much.

    Attributes:
        values: Loss and gradients, or states, in the other side's layout.
        evaluations: Of the field, forward and back.
        products: Vector-Jacobian products, of the field and of what is made of it, where known.
    """

    values: list[Tensor]
    evaluations: int
    products: int | None = None


Step = Callable[[], Outcome]


class Pair(NamedTuple):
    """The same step twice."""

    ours: Step
    textbook: Step


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        name: What is compared.
        build: Builds both with the same weights and data, in a precision, on so many samples.
        batch: Samples.
        agreement: Largest relative difference in float64.
        long: Whether it takes minutes.
        other: Whose the other side is.
    """

    name: str
    build: Callable[[torch.dtype, int], Pair]
    batch: int
    agreement: float = 1e-10
    long: bool = False
    other: str = "the textbook"
