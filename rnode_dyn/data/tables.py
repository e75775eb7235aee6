"""A table of floats in a .npy file: mapped, and looked at before anything is made of its values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnode_dyn.data.errors import DataError

_WHOLE_NUMBERS = (
    "save floats, array.astype('float32'). Whole numbers have no density of their own: add uniform "
    "noise of a unit to them first"
)
_MENDS = {
    "i": _WHOLE_NUMBERS,
    "u": _WHOLE_NUMBERS,
    "b": "save floats. What is true or false has no density",
    "c": "save floats, real and imaginary part as columns of their own",
    "V": "save floats, one array of two axes and no names of columns, such as "
    "numpy.lib.recfunctions.structured_to_unstructured(array)",
    "U": "save floats. Text has no density",
    "S": "save floats. Text has no density",
    "M": "save floats, such as the seconds since a day",
    "m": "save floats, such as seconds",
}
"""By NumPy's letter for a kind of values, what to save instead."""


class Rows(NamedTuple):
    """The rows of one split, mapped and not yet read, and where they are from.

    Attributes:
        array: The rows, `(n, columns)`, floats of any kind.
        path: Their file.
        first: The number in the file of the first of them.
    """

    array: np.ndarray
    path: Path
    first: int = 0

    def values(self, chosen: Sequence[int]) -> np.ndarray:
        """The chosen rows in float64, all of them numbers that float32 can hold.

        Raises:
            DataError: Some are not; the message has the first one's place.
        """
        values = self.array[np.asarray(chosen)].astype(np.float64)
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(values.astype(np.float32))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise DataError(
                f"{self.path} has {bad.any(axis=1).sum():,} rows with values that are not finite "
                f"float32 numbers, the first in row {self.first + chosen[row]:,}, column {column} "
                f"(counted from 0), which is {self.array[chosen[row], column]}: remove those rows, "
                f"or scale the data."
            )
        return values


def open_table(path: Path) -> np.ndarray:
    """The file's array, mapped and not yet read.

    Raises:
        DataError: It is no array of floats with two axes.
    """
    array = _mapped(path)
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{path} has the shape {array.shape}: save an array of shape (rows, columns), "
            f"one sample a row."
        )
    if not np.issubdtype(array.dtype, np.floating):
        mend = _MENDS.get(array.dtype.kind, "what is no number has no density")
        raise DataError(f"{path} holds {array.dtype}: {mend}.")
    return array


def _mapped(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # what NumPy raises depends on where the damage is
        raise DataError(
            f"{path} cannot be read as an array ({error}): write it with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        names = ", ".join(array.files)
        array.close()
        raise DataError(
            f"{path} is an archive of arrays ({names}), as numpy.savez writes it: save the one "
            f"that you mean with numpy.save."
        )
    return array
