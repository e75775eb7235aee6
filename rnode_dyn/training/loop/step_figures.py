"""The figures of a step, gathered over its parts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rnode_dyn.data.paired import AnyBatch
from rnode_dyn.flows.share import Share
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.training.objectives.base import Loss

BITS = "bits_per_dim"


@dataclass(frozen=True)
class Part:
    """A batch of Lightning's: the whole of a step, or what a process takes of it at once.

    Attributes:
        batch: The data.
        number: Its number in the epoch.
        share: Which rows of the step's batch it has.
    """

    batch: AnyBatch
    number: int
    share: Share

    def afresh(self) -> "Part":
        """Return the part before any noise was drawn for it."""
        share = self.share
        return replace(self, share=Share(share.start, share.size, share.whole, share.seed))


class StepFigures:
    """Means over the whole batch of a step, from those over its parts, and what broke in them.

    Attributes:
        loss: The mean loss.
        values: The objective's figures.
        parts: The parts.
        broken: Why a solve broke down, if one did.
        gradient_broken: The same of a gradient.

    Example:
        >>> figures = StepFigures()
        >>> for value, fraction in ((1.0, 0.25), (3.0, 0.75)):
        ...     figures.add(Loss(torch.tensor(value), {}), fraction)
        >>> figures.loss
        tensor(2.5000)
    """

    def __init__(self) -> None:
        self.loss: Tensor | float = 0.0
        self.values: dict[str, Tensor] = {}
        self.parts: list[Part] = []
        self.broken: SolverError | None = None
        self.gradient_broken: SolverError | None = None

    def add(self, loss: Loss, fraction: float) -> None:
        """Take in the loss of a part, which is that fraction of the batch."""
        device = loss.value.device
        self.loss = self.loss + loss.value.detach() * fraction
        for name, value in loss.figures.items():
            part = value.to(device, non_blocking=True) * fraction
            self.values[name] = self.values[name] + part if name in self.values else part

    def verdict(self, norm: Tensor) -> Tensor:
        """Loss, norm of the gradient, and bits/dim (0 where there are none), as one tensor."""
        loss = torch.as_tensor(self.loss, device=norm.device)
        if self.gradient_broken is not None:
            norm = torch.full_like(norm, math.nan)
        bits = self.values.get(BITS, torch.zeros_like(loss))
        return torch.stack([value.to(loss.dtype) for value in (loss, norm, bits)])


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Norm of all gradients together, 0-dim: one number tells whether all are finite."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
