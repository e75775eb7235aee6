"""What training minimises, as a strategy: the training module never assumes that a step solves."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow


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
    """A loss of a model on a batch.

    Attributes:
        is_mean_over_samples: Whether the loss of a batch is the mean of its samples' losses, so
            that it can be computed in pieces.
    """

    is_mean_over_samples: ClassVar[bool] = False

    @abstractmethod
    def loss(self, model: MultiscaleFlow, u: Tensor, event: Event) -> Loss:
        """Return the loss on ``u``, a batch of dequantized or continuous data."""
