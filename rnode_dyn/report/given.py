"""What samples are drawn conditional on: what was asked for, or all classes in turn."""

import torch
from torch import Tensor, nn

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.conditions import as_precise
from rnode_dyn.flows.weights import first_weight


def row_length(event: Event, count: int) -> int:
    """How many samples each class gets of about so many, one at least; a grid's row is a class.

    Example:
        >>> row_length(Event((1, 8, 8), classes=10), 64)
        6
    """
    return max(1, count // (event.classes or 1))


def conditions_for(event: Event, count: int, given: Tensor | None = None) -> Tensor | None:
    """Return a condition for each of some samples; ``None`` where samples have none.

    Args:
        event: What one sample looks like.
        count: How many samples; without a condition, so many of all classes together.
        given: The condition of all: a label, 0-dim, or a vector.

    Raises:
        ValueError: if it is missing and a vector, which nobody can choose.

    Example:
        >>> conditions_for(Event((2,), classes=3), 6)
        tensor([0, 0, 1, 1, 2, 2])
        >>> conditions_for(Event((2,), classes=3), 2, torch.tensor(1))
        tensor([1, 1])
    """
    if given is not None:
        return given.expand(count, *given.shape)
    if event.classes is not None:
        return torch.arange(event.classes).repeat_interleave(row_length(event, count))
    if event.columns is not None:
        raise ValueError(
            f"samples are conditional on {event.columns} numbers: say which, --condition with "
            "commas between them."
        )
    return None


def conditions_at(
    model: nn.Module, event: Event, count: int, given: Tensor | None = None
) -> Tensor | None:
    """Return what :func:`conditions_for` does, as a flow takes it: where and how its weights are.

    Example:
        >>> conditions_at(nn.Linear(1, 1), Event((2,), columns=1), 2, torch.ones(1).double())
        tensor([[1.],
                [1.]])
    """
    found = conditions_for(event, count, given)
    return None if found is None else entered(model, found)


def one_each(
    model: nn.Module, event: Event, count: int, given: Tensor | None = None
) -> Tensor | None:
    """Return conditions of exactly so many samples: of classes in turn there may be others.

    Example:
        >>> one_each(nn.Linear(1, 1), Event((2,), classes=2), 3)
        tensor([0, 0, 1])
    """
    found = conditions_at(model, event, count, given)
    return None if found is None else found[torch.arange(count) * len(found) // count]


def entered(model: nn.Module, condition: Tensor) -> Tensor:
    """Return conditions on the device of a flow's weights, and in their precision."""
    return as_precise(model, condition.to(first_weight(model).device))
