"""The regularized likelihood: bits per dimension, and the weighted penalties."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rnode_dyn.data.bits import bits_per_dim
from rnode_dyn.data.splits import Event
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.flows.augmented_flow import Augmented
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.regularizers import Regularizer, check_regularizers
from rnode_dyn.training.objectives.base import (
    Loss,
    Objective,
    as_trained,
    with_labels_left_out,
)


@dataclass(frozen=True)
class Likelihood(Objective):
    """Bits per dimension, and the weighted penalties of all blocks (Finlay et al. 2020).

    Args:
        regularizers: Whose weights to use; left out, each block's own.

    Example:
        >>> from rnode_dyn import MLPField
        >>> flow, x = RegularizedFlow(MLPField(2, classes=3)), torch.zeros(4, 2)
        >>> Likelihood().loss(flow, x, condition=torch.tensor([0, 1, 2, 0])).value.shape
        torch.Size([])
    """

    is_mean_over_samples: ClassVar[bool] = True

    regularizers: Sequence[Regularizer] | None = None

    def __post_init__(self) -> None:
        check_regularizers(self.regularizers or ())

    def loss(
        self,
        model: MultiscaleFlow | RegularizedFlow | Augmented,
        u: Tensor,
        event: Event | None = None,
        condition: Tensor | None = None,
    ) -> Loss:
        """Solve the flow on ``u``, and price where it went and how.

        An augmented flow is trained on its bound, which ``figures`` have as ``bits_per_dim_bound``.
        """
        if isinstance(model, Augmented):
            return self._loss_of_bound(model, u, event, condition)
        model, event = as_trained(model, u, event)
        condition = with_labels_left_out(model, u, condition)
        result, weighted = model.forward_weighted(u, condition)
        if self.regularizers is not None:
            weighted = self._weigh(result.penalties, torch.zeros_like(result.log_det))
        bits = bits_of(result, event).mean()
        penalty = weighted.mean().to(bits.dtype)
        figures = {"bits_per_dim": bits.detach(), **_means(result.penalties)}
        return Loss(bits + penalty, {**figures, **_evaluations(model.blocks)})

    def _loss_of_bound(
        self, model: Augmented, u: Tensor, event: Event | None, condition: Tensor | None
    ) -> Loss:
        condition = with_labels_left_out(model, u, condition)
        bound, penalties, weighted = model(u, condition)
        if self.regularizers is not None:
            weighted = self._weigh(penalties, torch.zeros_like(bound))
        event = Event(tuple(u.shape[1:])) if event is None else event
        bits = bits_per_dim(bound, event.dims, event.levels).mean()
        figures = {"bits_per_dim_bound": bits.detach(), **_means(penalties)}
        return Loss(bits + weighted.mean(), {**figures, **_evaluations(model.blocks)})

    def _weigh(self, penalties: dict[str, Tensor], total: Tensor) -> Tensor:
        for regularizer in self.regularizers or ():
            if regularizer.name not in penalties:
                raise ValueError(
                    f"Likelihood weighs {regularizer.name}, which no block integrates: give the "
                    f"flow a {type(regularizer).__name__}, with weight 0 if need be."
                )
            total = total + regularizer.weight * penalties[regularizer.name]
        return total


def _evaluations(blocks: Sequence[RegularizedFlow]) -> dict[str, Tensor]:
    return {"evaluations": torch.tensor(float(sum(block.stats.nfe for block in blocks)))}


def _means(penalties: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().mean() for name, value in penalties.items()}
