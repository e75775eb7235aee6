"""Tables of floats: read as they are, or refused by their path and the place in them."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rnode_dyn.data import DataError, load_data

ROWS = np.random.default_rng(0).standard_normal((100, 3))


def with_value(value: float, row: int, column: int) -> np.ndarray:
    rows = ROWS.copy()
    rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    "rows",
    [
        ROWS.astype(">f8"),
        ROWS.astype(np.float16),
        ROWS.astype(np.longdouble),
        np.asfortranarray(ROWS),
        ROWS.astype(np.float32)[:, ::-1],
    ],
    ids=["big-endian", "half", "long", "by-columns", "reversed"],
)
@pytest.mark.parametrize("standardize", [False, True])
def test_floats_of_any_kind_are_read(rows: np.ndarray, standardize: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", rows)
    splits = load_data("npy", root=tmp_path, standardize=standardize)
    assert torch.equal(splits.test[:], torch.from_numpy(rows[90:].astype(np.float32)))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((20, 2), dtype=np.int64), "holds int64: save floats.*uniform noise of a unit"),
        (ROWS > 0, "holds bool: save floats. What is true or false has no density"),
        (ROWS + 1j, "holds complex128: save floats, real and imaginary part as columns"),
        (np.zeros(20, dtype=[("a", "f4")]), "no names of columns.*structured_to_unstructured"),
        (np.full((20, 2), "a"), "holds <U1: save floats. Text has no density"),
        (np.zeros((20, 2), dtype="M8[s]"), "such as the seconds since a day"),
        (ROWS[:, 0], r"has the shape \(100,\): save an array of shape \(rows, columns\)"),
        (ROWS[None], r"has the shape \(1, 100, 3\)"),
        (ROWS[:0], r"has the shape \(0, 3\)"),
        (ROWS[:1], "has 1 rows, too few for three splits"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, reason: str, tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", array)
    with pytest.raises(DataError, match=rf"data\.npy.* {reason}"):
        load_data("npy", root=tmp_path)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    ("value", "row", "column"),
    [(np.nan, 0, 0), (np.inf, 85, 1), (-np.inf, 99, 2), (1.7e308, 50, 1)],
)
def test_what_is_no_number_is_refused_by_its_place(
    value: float, row: int, column: int, standardize: bool, tmp_path: Path
) -> None:
    np.save(tmp_path / "data.npy", with_value(value, row, column))
    place = rf"data\.npy has 1 rows .* row {row}, column {column} \(counted from 0\), which is"
    with pytest.raises(DataError, match=place):
        load_data("npy", root=tmp_path, standardize=standardize)


def archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, left=ROWS, right=ROWS)


def objects(path: Path) -> None:
    np.save(path, np.array([[1, "a"]], dtype=object), allow_pickle=True)


def cut(path: Path) -> None:
    np.save(path, ROWS)
    path.write_bytes(path.read_bytes()[:500])


def of_many_rows(path: Path) -> None:
    """A file of which the head says that it has more than there is anywhere."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**13, 3)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(100))


def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(ROWS))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (archive, r"is an archive of arrays \(left, right\), as numpy.savez writes it: save the"),
        (lambda path: zipfile.ZipFile(path, "w").close(), r"archive of arrays \(none\)"),
        (objects, "cannot be read as an array .*Python objects"),
        (a_pickle, "does not begin as one.*: write it with numpy.save"),
        (Path.touch, "does not begin as one"),
        (cut, "cannot be read as an array"),
        (of_many_rows, "cannot be read as an array"),
        (os.mkfifo, "is a pipe, and has the name of an array: remove or rename it"),
        (Path.mkdir, "is a folder, and has the name of an array"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nowhere, which is not there"),
        (lambda path: path.symlink_to(path), "cannot be read"),
    ],
)
@pytest.mark.parametrize("name", ["data.npy", "train.npy"])
def test_files_that_are_no_arrays_are_refused(
    make: Callable[[Path], object], reason: str, name: str, tmp_path: Path
) -> None:
    for other in ("val.npy", "test.npy") if name == "train.npy" else ():
        np.save(tmp_path / other, ROWS)
    make(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} .*{reason}"):
        load_data("npy", root=tmp_path)
