"""Samples to be scored, as people have them: an array, a table of text, or a folder of pictures."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.finding import pictures_below
from rnode_dyn.data.pictures import split_of_pictures
from rnode_dyn.data.splits import Event


class Found(NamedTuple):
    """What was read.

    Attributes:
        samples: A row a sample.
        names: Of pictures their files, in the samples' order.
    """

    samples: np.ndarray | Tensor
    names: tuple[str, ...] = ()


def read_samples(path: Path, event: Event) -> Found:
    """Read samples from a file by its ending, or from a folder of pictures.

    Args:
        path: ``.npy``, ``.npz`` with one array, ``.csv`` with or without a line of names,
            ``.parquet``, or a folder.
        event: What a sample looks like: pictures are brought to its size and levels.

    Raises:
        DataError: if it cannot be read as such.
    """
    if path.is_dir():
        return _pictures(path, event)
    if not path.exists():
        raise DataError(f"{path} is not there: give a file or a folder of samples.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} ends in {path.suffix!r}: give {', '.join(_READERS)} or a folder of pictures."
        )
    try:
        return Found(reader(path))
    except DataError:
        raise
    except Exception as error:  # what a reader raises depends on where the damage is
        raise DataError(f"{path} cannot be read as {path.suffix} ({error}).") from error


def _pictures(folder: Path, event: Event) -> Found:
    paths = pictures_below(folder)
    if len(event.shape) != 3 or event.levels is None:
        raise DataError(f"{folder} is a folder, and this flow's samples are no pictures.")
    if not paths:
        raise DataError(f"{folder} has no pictures in it.")
    if event.shape[1] != event.shape[2]:
        raise DataError(
            "a folder is brought to square pictures, and this flow's are not: give a .npy."
        )
    return Found(split_of_pictures(paths, event, event.shape[-1])[:], tuple(paths))


def _archive(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        if len(arrays.files) != 1:
            raise DataError(
                f"{path} holds the arrays {', '.join(arrays.files) or '(none)'}: save the one that "
                "is meant with numpy.save."
            )
        return arrays[arrays.files[0]]


def _text(path: Path) -> np.ndarray:
    # With its mark, which some programs put in front, the first number would not be one.
    with path.open(encoding="utf-8-sig") as file:
        skipped = int(_are_names(path, file.readline().strip().split(",")))
        file.seek(0)
        return np.loadtxt(file, delimiter=",", skiprows=skipped, ndmin=2)


def _are_names(path: Path, words: list[str]) -> bool:
    """Whether a first line names columns; a sample in it must not be lost, nor a name be one.

    Raises:
        DataError: if it could be either.
    """
    numbered = len(words) > 1 and words == [str(column) for column in range(len(words))]
    if numbered or len({_is_number(word) for word in words}) == 2:
        raise DataError(
            f"{path} begins with {','.join(words)}, which could be a sample or names of columns: "
            "write names in words, or numbers alone with a decimal point."
        )
    return not _is_number(words[0])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parquet(path: Path) -> np.ndarray:
    try:
        table = import_module("pyarrow.parquet").read_table(path)
    except ImportError as error:
        raise DataError(
            f"{path} takes pyarrow to read: pip install pyarrow, or save the table with numpy.save."
        ) from error
    return np.column_stack([column.to_numpy() for column in table.columns])


_READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": _archive,
    ".csv": _text,
    ".parquet": _parquet,
}
