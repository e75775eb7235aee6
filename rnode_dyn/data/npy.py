"""`npy`: vectors of one's own, as train.npy, validation.npy (or val.npy) and test.npy."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.data.choosing import choose
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits, TensorSplit

_FILES = {
    "train": ("train.npy",),
    "validation": ("validation.npy", "val.npy"),
    "test": ("test.npy",),
}


def describe(request: DataRequest) -> Event:
    """One row of train.npy; the file's header is enough to tell."""
    return Event((_open(_find(request.root, "train")).shape[1],))


def load(request: DataRequest) -> Splits:
    """The rows of the three files, as float32."""
    event = describe(request)
    train, validation, test = (_split(request, event, split) for split in SPLIT_NAMES)
    return Splits(event, train, validation, test)


def _split(request: DataRequest, event: Event, split: str) -> TensorSplit:
    path = _find(request.root, split)
    array = _open(path)
    if array.shape[1:] != event.shape:
        raise DataError(
            f"{path} has {array.shape[1]} columns and train.npy has {event.shape[0]}: "
            f"save the same columns in both."
        )
    return TensorSplit(_finite_rows(path, array[choose(request, split, len(array))]))


def _find(root: Path, split: str) -> Path:
    candidates = [root / name for name in _FILES[split]]
    for path in candidates:
        if path.is_file():
            return path
    names = " or ".join(_FILES[split])
    raise MissingDataError(
        f"npy finds no {names} in {root}: save an array of floats of shape (rows, columns) there "
        f"with numpy.save, or set root to the folder that has it."
    )


def _open(path: Path) -> np.ndarray:
    """The file's array, mapped and not yet read, if it is a table of floats."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as an array ({error}): write it with numpy.save."
        ) from error
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(
            f"{path} has the shape {array.shape}: save an array of shape (rows, columns), "
            f"one sample a row."
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{path} holds {array.dtype}: save floats, array.astype('float32').")
    return array


def _finite_rows(path: Path, rows: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported
        samples = torch.from_numpy(rows.astype(np.float32))
    bad = (~samples.isfinite()).any(dim=1)
    if bad.any():
        raise DataError(
            f"{path} has {int(bad.sum())} rows with values that are not finite float32 numbers: "
            f"remove those rows, or scale the data."
        )
    return samples
