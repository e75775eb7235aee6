"""A field at a time of its own for every sample."""

from collections.abc import Callable

import torch
from torch import Tensor

from rnode_dyn.fields.as_field import as_field, as_written, says_of_forward
from rnode_dyn.fields.conditioned import conditioned
from rnode_dyn.numerics.errors import first_line

_NAME = "takes_times"


def at_times(field: Callable, t: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return f(t_i, x_i) of every sample i at a time of its own.

    A field that says ``takes_times = True`` is called once, with ``t`` of shape ``(batch,)``; any
    other is mapped over the batch, and is called with a 0-dim time and one sample. A subclass that
    overrides ``forward`` inherits the word of its parent where its answer can be told from a
    mistake: times that were taken for a row of the state show in the shape, unless a row is as
    long as the batch.

    Args:
        field: The field.
        t: Times, ``(batch,)``.
        x: States, ``(batch, *event)``.
        condition: Of a field f(t, x, condition), a row a sample.

    Raises:
        ValueError: if the field cannot be evaluated sample by sample, or returns another shape.

    Example:
        >>> import torch
        >>> at_times(lambda t, x: t * x, torch.tensor([1.0, 2.0]), torch.ones(2, 3))
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """
    module = as_field(field)
    called = conditioned(module, condition, x)
    if says_of_forward(field, _NAME):
        return _checked(called(t, x), x)
    if getattr(as_written(field), _NAME, False) and len(x) not in (1, x.shape[-1]):
        slope = _tried(called, t, x)
        if slope is not None:
            return slope

    def alone(time: Tensor, sample: Tensor, *own: Tensor) -> Tensor:
        named = {"condition": own[0][None]} if own else {}
        return _checked(module(time, sample[None], **named), sample[None])[0]

    given = (t, x) if condition is None else (t, x, condition)
    try:
        return torch.func.vmap(alone, randomness="different")(*given)
    except RuntimeError as error:
        raise ValueError(
            "the field cannot be evaluated at a time of its own for every sample "
            f"({first_line(error)}): write it for times of shape (batch,) and say "
            "takes_times = True in its class."
        ) from error


def _tried(field: Callable, t: Tensor, x: Tensor) -> Tensor | None:
    """The field at all times together, or ``None`` where it does not take them."""
    try:
        slope = field(t, x)
    except RuntimeError:
        return None
    return slope if slope.shape == x.shape else None


def _checked(slope: Tensor, x: Tensor) -> Tensor:
    if slope.shape != x.shape:
        raise ValueError(
            f"the field returned shape {tuple(slope.shape)} for states of shape "
            f"{tuple(x.shape)} at times of their own. What it holds for each sample of a batch "
            "cannot be told apart sample by sample: write the field for times of shape (batch,) "
            "and say takes_times = True in its class."
        )
    return slope
