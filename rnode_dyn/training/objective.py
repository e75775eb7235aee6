"""What training minimises, as a strategy: the training module never assumes that a step solves."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.data.bits import bits_per_dim
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularizers import Regularizer, check_regularizers
from rnode_dyn.flows.result import FlowResult


@dataclass(frozen=True)
class Loss:
    """A loss to differentiate, and figures to show.

    Attributes:
        value: The loss, 0-dim.
        figures: Figures by name, detached, 0-dim.
    """

    value: Tensor
    figures: dict[str, Tensor]


class Objective(ABC):
    """A loss of a model on a batch."""

    @abstractmethod
    def loss(self, model: MultiscaleFlow, u: Tensor, event: Event) -> Loss:
        """Return the loss on ``u``, a batch of dequantized or continuous data."""


@dataclass(frozen=True)
class Likelihood(Objective):
    """Bits per dimension, and the weighted penalties of all blocks (Finlay et al. 2020).

    Args:
        regularizers: Whose weights to use; left out, each block's own.
    """

    regularizers: Sequence[Regularizer] | None = None

    def __post_init__(self) -> None:
        check_regularizers(self.regularizers or ())

    def loss(self, model: MultiscaleFlow, u: Tensor, event: Event) -> Loss:
        """Solve the flow on ``u``, and price where it went and how."""
        result, weighted = model.forward_weighted(u)
        if self.regularizers is not None:
            weighted = self._weigh(result.penalties)
        bits = bits_of(result, event).mean()
        penalty = torch.as_tensor(weighted, dtype=bits.dtype).mean()
        figures = {"bits_per_dim": bits.detach(), **_means(result.penalties)}
        evaluations = float(sum(block.stats.nfe for block in model.blocks))
        return Loss(bits + penalty, {**figures, "evaluations": torch.tensor(evaluations)})

    def _weigh(self, penalties: dict[str, Tensor]) -> Tensor | float:
        for regularizer in self.regularizers or ():
            if regularizer.name not in penalties:
                raise ValueError(
                    f"Likelihood weighs {regularizer.name}, which no block integrates: give the "
                    f"flow a {type(regularizer).__name__}, with weight 0 if need be."
                )
        return sum(r.weight * penalties[r.name] for r in self.regularizers or ())


def bits_of(result: FlowResult, event: Event) -> Tensor:
    """Bits per dimension of a batch, given where the flow took it, ``(batch,)``."""
    log_prob = standard_normal_log_prob(result.z) + result.log_det
    return bits_per_dim(log_prob, event.dims, event.levels)


def _means(penalties: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().mean() for name, value in penalties.items()}
