"""What samples are drawn conditional on: what was asked for, or all classes in turn."""

import torch
from torch import Tensor

from rnode_dyn.data.splits import Event


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
