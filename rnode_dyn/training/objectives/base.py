"""What training minimises, as a strategy: the training module never assumes that a step solves."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rnode_dyn.data.splits import Event
from rnode_dyn.fields.condition import NO_CLASS, ConditionEmbedding
from rnode_dyn.flows.augmented_flow import Augmented
from rnode_dyn.flows.given import check_kind
from rnode_dyn.flows.guidance import GuidedFlow
from rnode_dyn.flows.multiscale import MultiscaleFlow, as_multiscale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.share import drawn


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
    def loss(
        self,
        model: MultiscaleFlow | RegularizedFlow,
        u: Tensor,
        event: Event | None = None,
        condition: Tensor | None = None,
    ) -> Loss:
        """Return the loss on a batch of dequantized or continuous data.

        Args:
            model: The flow.
            u: The data, ``(batch, *event)``.
            event: What one sample looks like; left out, continuous data of the shape of ``u``.
            condition: Of a conditional flow, a row a sample; gradients reach it.
        """


def as_trained(model: nn.Module, u: Tensor, event: Event | None) -> tuple[MultiscaleFlow, Event]:
    """Return the flow as objectives walk it, and what a sample looks like, read from ``u``.

    Raises:
        TypeError: if the model is no flow of ours, ``u`` no floating tensor, or ``event`` none.
        ValueError: if ``u`` is no batch, or the flow a guided one.

    Example:
        >>> import torch
        >>> from rnode_dyn import MLPField
        >>> as_trained(RegularizedFlow(MLPField(2)), torch.zeros(3, 2), None)[1]
        Event(shape=(2,), levels=None)
    """
    if event is None:
        check_kind(u, model.parameters())
        event = Event(tuple(u.shape[1:]))
    if not isinstance(event, Event):
        raise TypeError(
            f"event is {event!r}; leave it out, or write an Event, such as Event((2,)). A "
            "condition goes by its name: condition=…."
        )
    refuse_guided(model)
    return as_multiscale(model, event.shape), event


def refuse_guided(model: nn.Module) -> None:
    """Refuse a guided flow: it is no density, and its scale would be trained into the weights.

    Raises:
        ValueError: if it is one.
    """
    if not isinstance(model, GuidedFlow):
        return
    raise ValueError(
        f"a flow guided by {model.scale:g} has no log-density, and is for samples alone: train, "
        "and teach with, the flow that was guided."
    )


def with_labels_left_out(
    model: MultiscaleFlow | Augmented, u: Tensor, condition: Tensor | None
) -> Tensor | None:
    """Return labels, some of them that of no class, as often as the fields' embeddings say.

    Only in training mode; a step that is taken in parts leaves out the same labels as at once.

    Args:
        model: The flow.
        u: The data that the labels are of, ``(batch, *event)``.
        condition: The labels, or what else the samples are conditional on; or ``None``.

    Example:
        >>> from rnode_dyn import MLPField, Scale
        >>> field = MLPField(2, classes=3, label_dropout=0.999)
        >>> flow = MultiscaleFlow((2,), [Scale([RegularizedFlow(field)])])
        >>> with_labels_left_out(flow, torch.zeros(2, 2), torch.tensor([1, 2]))
        tensor([-1, -1])
    """
    rates = [p.label_dropout for p in model.modules() if isinstance(p, ConditionEmbedding)]
    if condition is None or not any(rates) or not any(b.training for b in model.blocks):
        return condition
    if _left_out.get():  # of the batch that this is a piece of
        return condition
    left_out = drawn(_one_number_each, u, axis=0) < max(rates)
    # Bytes have no place for the label of no class.
    return condition.long().masked_fill(left_out.to(condition.device), NO_CLASS)


@contextmanager
def labels_left_out() -> Iterator[None]:
    """Leave out no further labels: those of a batch's pieces have been, for the whole batch."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


_left_out: ContextVar[bool] = ContextVar("left_out", default=False)


def _one_number_each(like: Tensor) -> Tensor:
    return torch.rand(len(like), device=like.device)
