"""Which samples an index means: one, a slice, or a list of them; counted from either end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor


def is_single(index: Any) -> bool:
    """Whether an index means one sample: a whole number of any kind, but no boolean.

    >>> is_single(3), is_single(np.int32(3)), is_single([3]), is_single(True)
    (True, True, False, False)
    """
    if isinstance(index, Tensor | np.ndarray):
        return index.ndim == 0 and _kind(index) in "iu"
    return hasattr(index, "__index__") and not isinstance(index, bool)


def rows_at(index: Any, count: int) -> np.ndarray:
    """The rows that an index means, from 0, as int64 `(n,)`.

    Args:
        index: A whole number, a slice, or whole numbers in a list, a range, an array or a tensor.
            Negative ones count from the end.
        count: How many samples there are.

    Raises:
        IndexError: A row is asked for that there is not.
        TypeError: The index is something else.
        ValueError: A slice goes in steps of 0.

    >>> rows_at(slice(-2, None), 5), rows_at([0, -1], 5)
    (array([3, 4]), array([0, 4]))
    """
    if isinstance(index, slice):
        return np.asarray(_sliced(index, count), dtype=np.int64)
    rows = _as_array([index] if is_single(index) else index)
    outside = rows[(rows < -count) | (rows >= count)]
    if len(outside):
        span = f"from {-count} to {count - 1}" if count else "none at all"
        raise IndexError(
            f"sample {outside[0]} is asked for, and there are {count:,}: an index goes {span}."
        )
    rows = rows.astype(np.int64)
    return np.where(rows < 0, rows + count, rows)


def _sliced(index: slice, count: int) -> range:
    try:
        return range(count)[index]
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{index} takes no samples ({error}): write whole numbers, such as [:200]."
        ) from None


def _as_array(index: Sequence[int] | np.ndarray | Tensor) -> np.ndarray:
    if isinstance(index, Tensor):
        index = index.detach().cpu()
    if isinstance(index, str | bytes) or not hasattr(index, "__len__"):
        raise _not_an_index(index)
    try:
        rows = np.asarray(index)
    except ValueError:  # lists of unequal lengths
        raise _not_an_index(index) from None
    if rows.dtype == bool and rows.size:
        raise TypeError(
            "a mask of booleans is no index here: write mask.nonzero()[0] of a NumPy array, or "
            "mask.nonzero()[:, 0] of a tensor."
        )
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise _not_an_index(index)
    return rows


def _not_an_index(index: Any) -> TypeError:
    return TypeError(
        f"an index of type {type(index).__name__} takes no samples: write a whole number, a slice "
        f"such as [:200], or whole numbers in a list, an array or a tensor."
    )


def _kind(array: Tensor | np.ndarray) -> str:
    """NumPy's letter for what an array holds: `i` and `u` are whole numbers."""
    return (array.detach().cpu().numpy() if isinstance(array, Tensor) else array).dtype.kind
