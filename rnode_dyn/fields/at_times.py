"""A field, and the derivatives that a flow takes of it, at a time of its own for every sample."""

from collections.abc import Callable
from functools import partial

from rnode_dyn.fields.own_product import FieldWithProduct
from rnode_dyn.numerics.at_times import at_times, says_takes_times

__all__ = ["at_times", "taking_times"]


def taking_times(field: Callable) -> Callable:
    """Return f(t, x) for ``t`` of shape ``(batch,)``, with its own product where that takes them.

    Example:
        >>> import torch
        >>> taking_times(lambda t, x: t * x)(torch.tensor([1.0, 2.0]), torch.ones(2, 1)).tolist()
        [[1.0], [2.0]]
    """
    if isinstance(field, FieldWithProduct):
        # Of a product it is known that it is the field's derivative at one time for all.
        return field if says_takes_times(field.field) else partial(at_times, field.field)
    return partial(at_times, field)
