"""Numbers as people write them: Python's, NumPy's, tensors of one entry, fractions."""

import math
import sys
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.transforms import is_batched


def as_number(value: Any) -> float | None:
    """Return any real number as a float, and ``None`` for what is none.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> as_number(np.float32(0.5)), as_number(torch.tensor(2)), as_number(True), as_number("1")
        (0.5, 2.0, None, None)
    """
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    if isinstance(value, Tensor) and is_batched(value):
        raise RuntimeError(
            "a number that a solve is told by, such as a time, is batched by vmap, and cannot be "
            "read there: map over starts and parameters, and ask for all times at once."
        )
    is_entry = getattr(value, "shape", None) == () and not _is_complex(value)
    if not (isinstance(value, Real | Decimal) or is_entry):
        return None
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_complex(value: Any) -> bool:
    return "complex" in str(getattr(value, "dtype", ""))


def positive(owner: str, name: str, value: Any) -> float:
    """Return a positive number as a float.

    Raises:
        ValueError: for anything else, naming its owner and itself.
    """
    _refuse_gradient(owner, name, value)
    number = as_number(value)
    if number is None or not 0 < number < math.inf:
        raise ValueError(
            f"{owner}: {name} is {value!r}; write a positive number (time may run backwards "
            "all the same: t_span alone gives the direction)."
        )
    return number


def not_negative(owner: str, name: str, value: Any) -> float:
    """Return a number of at least 0 as a float.

    Raises:
        ValueError: for anything else, naming its owner and itself.
    """
    _refuse_gradient(owner, name, value)
    number = as_number(value)
    if number is None or not 0 <= number < math.inf:
        raise ValueError(f"{owner}: {name} is {value!r}; write a number of at least 0.")
    return number


def whole(
    owner: str, name: str, value: Any, wanted: str = "a whole number, 1 or more", least: int = 1
) -> int:
    """Return a whole number of at least ``least`` as an int.

    Args:
        owner: Whose number it is.
        name: What it is called there.
        value: What was given.
        wanted: What to write instead of what is none.
        least: The smallest.

    Raises:
        ValueError: for anything else, naming its owner and itself.
    """
    number = as_number(value)
    if number is None or number < least or number != number // 1:
        raise ValueError(f"{owner}: {name} is {value!r}; write {wanted}.")
    return int(number)


def truth(owner: str, name: str, value: Any) -> bool:
    """Return ``True`` or ``False`` as it was given: a word such as ``"false"`` would be true.

    Raises:
        TypeError: for anything else, naming its owner and itself.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{owner}: {name} is {value!r}; write True or False.")
    return bool(value)


def _refuse_gradient(owner: str, name: str, value: Any) -> None:
    if wants_gradient(value):
        raise ValueError(
            f"{owner}: {name} is a tensor that wants a gradient, and none would reach it: write "
            f"{name}.item() to use its value."
        )


def wants_gradient(value: Any) -> bool:
    """Whether a value is a tensor whose gradient somebody wants."""
    return isinstance(value, Tensor) and value.requires_grad


def rounding_of(value: Any) -> float:
    """The relative rounding of the type that a number came in.

    Example:
        >>> import torch
        >>> rounding_of(torch.tensor(0.1)) == 2**-23, rounding_of(0.1) == 2**-52
        (True, True)
    """
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, torch.dtype):
        return torch.finfo(dtype).eps if dtype.is_floating_point else sys.float_info.epsilon
    if isinstance(dtype, np.dtype) and np.issubdtype(dtype, np.floating):
        return max(float(np.finfo(dtype).eps), sys.float_info.epsilon)
    return sys.float_info.epsilon
