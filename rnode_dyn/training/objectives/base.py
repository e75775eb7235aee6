"""What training minimises, as a strategy: the training module never assumes that a step solves."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

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
    """A loss of a model on a batch."""

    @abstractmethod
    def loss(self, model: MultiscaleFlow, u: Tensor, event: Event) -> Loss:
        """Return the loss on ``u``, a batch of dequantized or continuous data."""
