"""Which parts of a flow take a condition, and handing it to them."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from rnode_dyn.flows.weights import first_weight


def takes_condition(step: nn.Module) -> bool:
    """Whether a map takes a condition: by its own word, and not if it says nothing.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedFlow, Squeeze
        >>> takes_condition(Squeeze()), takes_condition(RegularizedFlow(MLPField(2, condition=3)))
        (False, True)
    """
    return bool(getattr(step, "takes_condition", False))


def handed(step: nn.Module, condition: Tensor | None) -> dict[str, Any]:
    """What a map is called with by name: the condition, if it is one that takes it.

    Example:
        >>> from rnode_dyn import Squeeze
        >>> handed(Squeeze(), None)
        {}
    """
    return {} if condition is None or not takes_condition(step) else {"condition": condition}


def as_precise(model: nn.Module, condition: Tensor) -> Tensor:
    """Return conditions of data in the precision of a flow's weights; labels as they are.

    Those that the flow standardises keep theirs: they may need more bits until they are.

    Example:
        >>> import torch
        >>> as_precise(torch.nn.Linear(1, 1), torch.zeros(1, dtype=torch.float64)).dtype
        torch.float32
    """
    standardised = getattr(model, "preprocess_condition", None) is not None
    if standardised or not condition.is_floating_point():
        return condition
    return condition.to(first_weight(model).dtype)


def refuse_extra(steps: Iterable[nn.Module], condition: Tensor | None) -> None:
    """Refuse a condition that no part would take.

    Raises:
        ValueError: if one was given.

    Example:
        >>> import torch
        >>> refuse_extra([], torch.zeros(1))
        Traceback (most recent call last):
        ValueError: a condition was given, and no part of this flow takes one: leave it out, or ...
    """
    if condition is not None and not any(takes_condition(step) for step in steps):
        raise ValueError(
            "a condition was given, and no part of this flow takes one: leave it out, or build its "
            "fields with condition=k for vectors of k numbers, classes=n for n class labels."
        )
