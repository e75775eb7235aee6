"""What a field returns, and what is said where it is no slope of the state."""

from collections.abc import Callable, Iterable
from typing import NoReturn

import torch
from torch import Tensor

from rnode_dyn.numerics.errors import SolverError, first_line


def check_slope(slope: object, x: Tensor) -> None:
    """Refuse what is not the rate of change of a state.

    Raises:
        TypeError: if it is no tensor, or of another kind of number than the state.
        ValueError: if it is of another shape, or on another device.

    Example:
        >>> check_slope(torch.zeros(3, 1), torch.zeros(3, 2))
        Traceback (most recent call last):
        ValueError: the field returned shape (3, 1) for a state of shape (3, 2): it must return ...
    """
    if not isinstance(slope, Tensor):
        raise TypeError(
            f"the field returned a {type(slope).__name__}: it must return dx/dt, one tensor like "
            "x; of several results return the first."
        )
    if slope.shape != x.shape:
        raise ValueError(
            f"the field returned shape {tuple(slope.shape)} for a state of shape "
            f"{tuple(x.shape)}: it must return dx/dt, one value for every entry of x."
        )
    if slope.dtype != x.dtype and not _is_autocast(slope):
        raise TypeError(
            f"the field returned {slope.dtype} for a state of {x.dtype}: it must return dx/dt in "
            "the state's own precision; write .to(x.dtype) at its end, or start from x0 in the "
            "other one."
        )
    if slope.device != x.device:
        raise ValueError(
            f"the field returned a tensor on {slope.device} for a state on {x.device}: move what "
            "it uses there, field.to(x.device)."
        )


def _is_autocast(slope: Tensor) -> bool:
    return slope.is_floating_point() and torch.is_autocast_enabled(slope.device.type)


def check_unchanged(x: Tensor, version: int | None) -> None:
    """Refuse a field that wrote into the state it was given.

    Args:
        x: The state.
        version: What :func:`version_of` said of it before.
    """
    if version_of(x) != version:
        raise ValueError(
            "the field changes the state that it is given, in place, and the solver needs it as it "
            "was: write x = x.clone() at the field's start, or operations without a trailing _."
        )


def version_of(x: Tensor) -> int | None:
    """How often a tensor has been written to; torch does not count in inference mode."""
    return None if x.is_inference() else x._version


def blame_arguments(error: Exception, x: Tensor, parameters: Iterable[Tensor]) -> NoReturn:
    """Say of a field that fails at once which state it was given.

    Raises:
        TypeError: if it has parameters, and none in the state's precision.
        ValueError: in all other cases, with the field's own words.
    """
    refuse_precision(x, parameters, error)
    raise ValueError(
        f"the field fails on a state of shape {tuple(x.shape)}, {x.dtype} ({first_line(error)}): "
        "it must take a batch of states of this shape, f(t, x), and return dx/dt."
    ) from error


def refuse_precision(
    x: Tensor, parameters: Iterable[Tensor], cause: Exception | None = None
) -> None:
    """Raise where all parameters have another precision than the state, or are elsewhere.

    Raises:
        TypeError: naming both precisions, and what to write.
        ValueError: naming both devices, and what to write.
    """
    known = tuple(p for p in parameters if p.is_floating_point() or p.is_complex())
    kinds, places = {p.dtype for p in known}, {p.device for p in known}
    if kinds and x.dtype not in kinds and not torch.is_autocast_enabled(x.device.type):
        listed = " and ".join(sorted(map(str, kinds)))
        raise TypeError(
            f"the field's parameters are {listed}, and it was given {x.dtype}: write "
            f"x.to({listed}), or .to({x.dtype}) on the model."
        ) from cause
    if places and x.device not in places:
        place = sorted(map(str, places))[0]
        raise ValueError(
            f"the field's parameters are on {place}, and it was given a tensor on {x.device}: "
            f'write x.to("{place}"), or .to("{x.device}") on the model.'
        ) from cause


def first_evaluation(
    field: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor, parameters: Iterable[Tensor]
) -> Tensor:
    """Evaluate a field for the first time, and say what it was given where torch cannot."""
    try:
        return field(t, x)
    except (SolverError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError) as error:
        blame_arguments(error, x, parameters)


def is_same(again: Tensor, before: Tensor) -> Tensor:
    """Whether a tensor came out as before, but for the rounding of operations in any order.

    In autocast it is that of its own type: a product that will be differentiated is made of other
    operations than one that will not.
    """
    kinds, device = [before.dtype], before.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        kinds.append(torch.get_autocast_dtype(device))
    tolerance = max(torch.finfo(kind).eps for kind in kinds) ** 0.5
    return ((again - before).abs() <= tolerance * (1 + before.abs().amax())).all()
