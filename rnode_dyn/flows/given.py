"""Arrays as people have them, and what is said of those that a flow cannot take."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from rnode_dyn.numerics.slope import refuse_precision


def check_batch(
    x: object, parameters: Iterable[Tensor], event_shape: Sequence[int] | None = None
) -> None:
    """Refuse what is no batch of samples for a model with these parameters.

    Args:
        x: What was given.
        parameters: The model's.
        event_shape: Shape of one sample, where it is known.

    Raises:
        TypeError: if it is no floating tensor, or has another precision than the parameters.
        ValueError: if its shape does not fit.

    Example:
        >>> import torch
        >>> check_batch(torch.zeros(3), (), event_shape=(3,))
        Traceback (most recent call last):
        ValueError: a flow takes a batch (batch, 3), given shape (3,): write x[None] for a ...
    """
    known = tuple(parameters)
    check_kind(x, known)
    assert isinstance(x, Tensor)
    refuse_precision(x, known)
    _check_shape(tuple(x.shape), None if event_shape is None else tuple(event_shape))


def check_kind(x: object, parameters: Iterable[Tensor]) -> None:
    """Refuse what is no floating tensor, and say what to write for a model of these parameters.

    Raises:
        TypeError: saying what was given, and what to write.
    """
    wanted = next(iter(parameters), None)
    dtype = "torch.float32" if wanted is None else str(wanted.dtype)
    if not isinstance(x, Tensor):
        given = f"{type(x).__module__}.{type(x).__name__}"
        raise TypeError(
            f"a flow takes a floating tensor (batch, *event), given a {given}: write "
            f"torch.as_tensor(x, dtype={dtype})."
        )
    if not x.is_floating_point():
        raise TypeError(f"a flow takes floating numbers, given {x.dtype}: write x.to({dtype}).")


def _check_shape(shape: tuple[int, ...], event: tuple[int, ...] | None) -> None:
    axes = "*event" if event is None else ", ".join(map(str, event))
    if (event is None and len(shape) < 2) or (
        # Compared by length first: of a batch of any size, in an export, 3 is no answer.
        event is not None and len(shape) == len(event) and shape == event
    ):
        raise ValueError(
            f"a flow takes a batch (batch, {axes}), given shape {shape}: write x[None] for a "
            "single sample."
        )
    if event is not None and shape[1:] != event:
        raise ValueError(f"a flow takes a batch (batch, {axes}), given shape {shape}.")
