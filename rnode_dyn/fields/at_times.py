"""A field at a time of its own for every sample."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from rnode_dyn.fields.as_field import CalledField

_NAME = "takes_times"


def at_times(field: Callable, t: Tensor, x: Tensor) -> Tensor:
    """Return f(t_i, x_i) of every sample i at a time of its own.

    A field whose class says ``takes_times = True`` of its own ``forward`` is called once, with
    ``t`` of shape ``(batch,)``; any other is mapped over the batch, and is called with a 0-dim
    time and one sample.

    Args:
        field: The field.
        t: Times, ``(batch,)``.
        x: States, ``(batch, *event)``.

    Raises:
        ValueError: if the field cannot be evaluated sample by sample, or returns another shape.

    Example:
        >>> import torch
        >>> at_times(lambda t, x: t * x, torch.tensor([1.0, 2.0]), torch.ones(2, 3))
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """
    if takes_times(field):
        return _checked(field(t, x), x)

    def alone(time: Tensor, sample: Tensor) -> Tensor:
        return _checked(field(time, sample[None]), sample[None])[0]

    try:
        return torch.func.vmap(alone, randomness="different")(t, x)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the field cannot be evaluated at a time of its own for every sample ({reason}): "
            "write it for times of shape (batch,) and say takes_times = True in its class."
        ) from error


def takes_times(field: Callable) -> bool:
    """Whether a field takes a time for each sample: its class says so of the forward called.

    A subclass that overrides ``forward`` has to say it again.
    """
    if isinstance(field, CalledField):
        return field.calling.is_plain and takes_times(field.module)
    if "forward" in getattr(field, "__dict__", {}) or getattr(field, "_forward_hooks", None):
        return False
    lineage = inspect.getmro(type(field))
    says = next((i for i, kind in enumerate(lineage) if _NAME in vars(kind)), None)
    forward = next((i for i, kind in enumerate(lineage) if "forward" in vars(kind)), None)
    return says is not None and (forward is None or says <= forward) and bool(getattr(field, _NAME))


def _checked(slope: Tensor, x: Tensor) -> Tensor:
    if slope.shape != x.shape:
        raise ValueError(
            f"the field returned shape {tuple(slope.shape)} for states of shape "
            f"{tuple(x.shape)} at times of their own. What it holds for each sample of a batch "
            "cannot be told apart sample by sample: write the field for times of shape (batch,) "
            "and say takes_times = True in its class."
        )
    return slope
