"""A field at a time of its own for every sample."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from rnode_dyn.numerics.errors import first_line

_NAME = "takes_times"


class Wrapped(ABC):
    """A field with something of ours around it."""

    @property
    @abstractmethod
    def written(self) -> Callable:
        """The field as it was written; ``self``, where that is called in another way."""


class HasRows(ABC):
    """A field that holds something for each sample of a batch."""

    @property
    @abstractmethod
    def rows(self) -> tuple[Tensor, ...]:
        """What it holds, a row a sample."""

    @abstractmethod
    def with_rows(self, rows: tuple[Tensor, ...]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the same for a single sample, given its row of each."""


def at_times(field: Callable, t: Tensor, x: Tensor) -> Tensor:
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

    Raises:
        ValueError: if the field cannot be evaluated sample by sample, or returns another shape.

    Example:
        >>> import torch
        >>> at_times(lambda t, x: t * x, torch.tensor([1.0, 2.0]), torch.ones(2, 3))
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """
    if says_takes_times(field):
        return _checked(field(t, x), x)
    if getattr(as_written(field), _NAME, False) and len(x) not in (1, x.shape[-1]):
        slope = _tried(field, t, x)
        if slope is not None:
            return slope

    rows = field.rows if isinstance(field, HasRows) else ()

    def alone(time: Tensor, sample: Tensor, *own: Tensor) -> Tensor:
        there = field.with_rows(own) if isinstance(field, HasRows) else field
        return _checked(there(time, sample[None]), sample[None])[0]

    try:
        return torch.func.vmap(alone, randomness="different")(t, x, *rows)
    except RuntimeError as error:
        raise ValueError(
            "the field cannot be evaluated at a time of its own for every sample "
            f"({first_line(error)}): write it for times of shape (batch,) and say "
            "takes_times = True in its class."
        ) from error


def says_takes_times(field: Callable) -> bool:
    """Whether a field's class says of its own ``forward`` that it takes a time for each sample."""
    return says_of_forward(field, _NAME)


def says_of_forward(field: Callable, name: str) -> bool:
    """Whether a field's class says something of its own ``forward``, and means it.

    A subclass that overrides ``forward`` inherits the words of its parent, which are not about it.

    Args:
        field: The field.
        name: An attribute of its class: a word that counts where it is true, or a method.
    """
    written = as_written(field)
    if "forward" in getattr(written, "__dict__", {}) or getattr(written, "_forward_hooks", None):
        return False
    lineage = inspect.getmro(type(written))
    says = next((i for i, kind in enumerate(lineage) if name in vars(kind)), None)
    forward = next((i for i, kind in enumerate(lineage) if "forward" in vars(kind)), None)
    is_said = says is not None and (forward is None or says <= forward)
    return is_said and bool(getattr(written, name))


def as_written(field: Callable) -> Callable:
    """The field without what we put around it."""
    return field.written if isinstance(field, Wrapped) else field


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
