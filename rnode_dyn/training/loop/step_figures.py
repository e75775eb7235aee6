"""The figures of a step, gathered over its parts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rnode_dyn.data.paired import AnyBatch
from rnode_dyn.flows.share import Share
from rnode_dyn.numerics.checks import DeferredChecks
from rnode_dyn.numerics.errors import SolverError, is_of_the_gradient
from rnode_dyn.training.loop.across import summed
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


@dataclass(frozen=True)
class Verdict:
    """What was read of a step.

    Attributes:
        loss: Its loss.
        norm: Norm of its gradient.
        bits: Its bits/dim; ``None`` where the objective has none.
        broken: Whether a solve of it, or the gradient of one, broke down.
        values: The objective's figures, where they have been read.
    """

    loss: float
    norm: float
    bits: float | None
    broken: bool
    values: dict[str, float]

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are, and all solves were."""
        return math.isfinite(self.loss) and math.isfinite(self.norm) and not self.broken


class StepFigures:
    """Means over the whole batch of a step, from those over its parts, and what broke in them.

    On a device all of it stays there until :meth:`read`.

    Args:
        shared: Whether several processes take the step.

    Attributes:
        loss: The mean loss.
        values: The objective's figures.
        parts: The parts.
        broken: Why a solve broke down, if one did.
        gradient_broken: The same of a gradient.
        checks: What waits to be read of the step's solves.

    Example:
        >>> figures = StepFigures()
        >>> for value, fraction in ((1.0, 0.25), (3.0, 0.75)):
        ...     figures.add(Loss(torch.tensor(value), {}), fraction)
        >>> figures.loss
        tensor(2.5000)
    """

    def __init__(self, shared: bool = False) -> None:
        self.loss: Tensor | float = 0.0
        self.values: dict[str, Tensor] = {}
        self.parts: list[Part] = []
        self.broken: SolverError | None = None
        self.gradient_broken: SolverError | None = None
        # A process that stopped at once would leave the others waiting for its gradient.
        self.checks = DeferredChecks(on_cpu=shared)

    def add(self, loss: Loss, fraction: float) -> None:
        """Take in the loss of a part, which is that fraction of the batch."""
        device = loss.value.device
        self.loss = self.loss + loss.value.detach() * fraction
        for name, value in loss.figures.items():
            part = value.to(device, non_blocking=True) * fraction
            self.values[name] = self.values[name] + part if name in self.values else part

    def read(self, norm: Tensor, trainer: pl.Trainer) -> Verdict:
        """Read the step with one reading of the device; several processes add up their figures.

        Of those the objective's own come later, by :meth:`read_values`: a process whose solve
        broke down has none.

        Args:
            norm: Norm of the step's gradient, 0-dim.
            trainer: The trainer.
        """
        verdict = summed(trainer, self._verdict(norm))
        values = self._values(verdict) if trainer.world_size == 1 else verdict[:0]
        loss, size, bits, broken, *read = torch.cat([verdict, values]).tolist()
        if broken:
            self._take_blame(self.checks.first_error())
        figures = dict(zip(self.values, read, strict=True)) if read else {}
        return Verdict(loss, size, bits if BITS in self.values else None, bool(broken), figures)

    def read_values(self, trainer: pl.Trainer) -> dict[str, float]:
        """Read the objective's figures, added up over the processes."""
        values = summed(trainer, self._values(torch.as_tensor(self.loss)))
        return dict(zip(self.values, values.tolist(), strict=True))

    def _verdict(self, norm: Tensor) -> Tensor:
        """Loss, norm of the gradient, bits/dim (0 where there are none), and what broke."""
        loss = torch.as_tensor(self.loss, device=norm.device)
        if self.gradient_broken is not None:
            norm = torch.full_like(norm, math.nan)
        bits = self.values.get(BITS, torch.zeros_like(loss))
        broken = self.checks.failed(norm.device)
        return torch.stack([value.to(loss.dtype) for value in (loss, norm, bits, broken)])

    def _values(self, like: Tensor) -> Tensor:
        values = list(self.values.values())
        return torch.stack(values) if values else like.new_zeros(0)

    def earlier(self, error: SolverError) -> SolverError:
        """Return what is to blame for an error: a solve before it that has broken down, or it."""
        first = self.checks.first_error()
        return first if isinstance(first, SolverError) else error

    def _take_blame(self, error: Exception | None) -> None:
        """Note which solve broke down; ``None``: one of another process.

        Raises:
            Exception: if something else is wrong than that.
        """
        if isinstance(error, SolverError):
            if is_of_the_gradient(error):
                self.gradient_broken = error
            else:
                self.broken = error
        elif error is not None:
            raise error


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Norm of all gradients together, 0-dim: one number tells whether all are finite."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
