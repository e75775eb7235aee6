"""A table of floats in a .npy file: mapped, and looked at before anything is made of its values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.regular import check_regular, shown

_LARGEST = float(np.finfo(np.float32).max)
_WHOLE_NUMBERS = (
    "save floats, array.astype('float32'). Whole numbers have no density of their own: add uniform "
    "noise of a unit to them first"
)
_MENDS = {
    "i": _WHOLE_NUMBERS,
    "u": _WHOLE_NUMBERS,
    "b": "save floats. What is true or false has no density",
    "c": "save floats, real and imaginary part as columns of their own",
    "O": "save floats. What is any object has no density",
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

    def values(self, chosen: Sequence[int], largest: float = _LARGEST) -> np.ndarray:
        """The chosen rows in float64, all of them finite numbers.

        Args:
            chosen: Which of the rows.
            largest: What the numbers may be at most, without their signs; left out, what float32
                can hold.

        Raises:
            DataError: Some are not; the message has the first one's place.
        """
        with np.errstate(over="ignore"):
            values = self.array[np.asarray(chosen)].astype(np.float64)
        bad = ~(np.abs(values) <= largest)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            what = "float32 numbers" if largest == _LARGEST else f"numbers up to {largest:.0e}"
            raise DataError(
                f"{self.path} has {bad.any(axis=1).sum():,} rows with values that are not finite "
                f"{what}, the first in row {self.first + chosen[row]:,}, column {column} (counted "
                f"from 0), which is {self.array[chosen[row], column]}: remove those rows, or scale "
                f"the data."
            )
        return values


def open_table(path: Path) -> np.ndarray:
    """The file's array, mapped and not yet read.

    Raises:
        DataError: It is no array of floats with two axes.
    """
    check_regular(path, "an array")
    array = _mapped(path)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{shown(path)} holds {array.dtype}: {_MENDS[array.dtype.kind]}.")
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{shown(path)} has the shape {array.shape}: save an array of shape (rows, columns), "
            f"one sample a row."
        )
    return array


def _mapped(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # what NumPy raises depends on where the damage is
        reason = shown(str(error)) if _begins_as_array(path) else "it does not begin as one"
        raise DataError(
            f"{shown(path)} cannot be read as an array ({reason}): write it with numpy.save, as "
            f"floats."
        ) from error
    if not isinstance(array, np.ndarray):
        names = ", ".join(array.files) or "none"
        array.close()
        raise DataError(
            f"{path} is an archive of arrays ({names}), as numpy.savez writes it: save the one "
            f"that you mean with numpy.save."
        )
    return array


def _begins_as_array(path: Path) -> bool:
    """Whether it is not a pickle, a text or nothing, of which NumPy says what does not help."""
    magic = np.lib.format.MAGIC_PREFIX
    with path.open("rb") as file:
        return file.read(len(magic)) == magic
