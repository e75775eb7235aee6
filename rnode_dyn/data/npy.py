"""`npy`: vectors of one's own, as train.npy, validation.npy (or val.npy) and test.npy, or as one.

That one, data.npy, is split in the order of its rows: the last tenth tests, of the rest the last
tenth validates. So are POWER and MINIBOONE laid out by the users of MAF (Papamakarios et al.).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rnode_dyn.data.choosing import choose, last_tenths
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits, TensorSplit

_FILES = {
    "train": ("train.npy",),
    "validation": ("validation.npy", "val.npy"),
    "test": ("test.npy",),
}
_WHOLE = "data.npy"


class _Rows(NamedTuple):
    """The rows of one split, mapped and not yet read, and the file they are from."""

    array: np.ndarray
    path: Path


def describe(request: DataRequest) -> Event:
    """One row; the header of a file is enough to tell, or the request says how many columns."""
    if request.columns is not None:
        return Event((request.columns,))
    return Event((_rows(request.root)["train"].array.shape[1],))


def load(request: DataRequest) -> Splits:
    """The rows as float32, standardised by the training rows if that was asked for."""
    event, rows = describe(request), _rows(request.root)
    for split in SPLIT_NAMES:
        _check_columns(request, rows[split], event.shape[0])
    scaling = _Scaling.of(rows["train"]) if request.standardize else _Scaling()
    train, validation, test = (
        _split(rows[split], choose(request, split, len(rows[split].array)), scaling)
        for split in SPLIT_NAMES
    )
    return Splits(event, train, validation, test)


class _Scaling(NamedTuple):
    """What is taken off each column, and what it is then divided by."""

    mean: np.ndarray | float = 0.0
    std: np.ndarray | float = 1.0

    @classmethod
    def of(cls, rows: _Rows) -> "_Scaling":
        values = rows.array.astype(np.float64)
        _check_finite(rows.path, values)
        std = values.std(axis=0)
        constant = np.flatnonzero(std == 0)
        if len(constant):
            raise DataError(
                f"{rows.path} has the same value in every training row of column {constant[0]} "
                f"(counted from 0), which cannot be standardised: remove that column."
            )
        return cls(values.mean(axis=0), std)


def _split(rows: _Rows, chosen: Sequence[int], scaling: _Scaling) -> TensorSplit:
    values = (rows.array[np.asarray(chosen)].astype(np.float64) - scaling.mean) / scaling.std
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported
        samples = values.astype(np.float32)
    _check_finite(rows.path, samples)
    return TensorSplit(torch.from_numpy(samples))


def _rows(root: Path) -> dict[str, _Rows]:
    """The rows of every split."""
    whole, train = root / _WHOLE, root / _FILES["train"][0]
    if not whole.is_file():
        return {split: _Rows(_open(path), path) for split, path in _find(root).items()}
    if train.is_file():
        raise DataError(
            f"{root} has both {_WHOLE} and {train.name}, and they may be split differently: "
            f"remove one."
        )
    array = _open(whole)
    parts = last_tenths(len(array))
    if not all(map(len, parts.values())):
        raise DataError(f"{whole} has {len(array)} rows, too few for three splits: save 20.")
    return {split: _Rows(array[part.start : part.stop], whole) for split, part in parts.items()}


def _find(root: Path) -> dict[str, Path]:
    """The file of every split."""
    found = {}
    for split, names in _FILES.items():
        path = next((root / name for name in names if (root / name).is_file()), None)
        if path is None:
            raise MissingDataError(
                f"npy finds no {' or '.join(names)} in {root}: save an array of floats of shape "
                f"(rows, columns) there with numpy.save, one file for each split, or all rows as "
                f"{_WHOLE} (the last tenth of them tests, of the rest the last tenth validates), "
                f"or set root to the folder that has them."
            )
        found[split] = path
    return found


def _open(path: Path) -> np.ndarray:
    """The file's array, mapped and not yet read, if it is a table of floats."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as an array ({error}): write it with numpy.save."
        ) from error
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{path} has the shape {array.shape}: save an array of shape (rows, columns), "
            f"one sample a row."
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{path} holds {array.dtype}: save floats, array.astype('float32'). Whole numbers "
            f"have no density of their own: add uniform noise of a unit to them first."
        )
    return array


def _check_columns(request: DataRequest, rows: _Rows, columns: int) -> None:
    found = rows.array.shape[1]
    if found != columns:
        other = "columns =" if request.columns else "train.npy has"
        raise DataError(
            f"{rows.path} has {found} columns and {other} {columns}: save the same columns in "
            f"every file, as many as the recipe says."
        )


def _check_finite(path: Path, values: np.ndarray) -> None:
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"{path} has {bad} rows with values that are not finite float32 numbers: "
            f"remove those rows, or scale the data."
        )
