"""`npy`: vectors of one's own, as train.npy, validation.npy (or val.npy) and test.npy, or as one.

That one, data.npy, is split in the order of its rows: the last tenth tests, of the rest the last
tenth validates. So are POWER and MINIBOONE laid out by the users of MAF (Papamakarios et al.).
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from rnode_dyn.data.choosing import choose, last_tenths
from rnode_dyn.data.columns import check_columns, in_columns
from rnode_dyn.data.errors import DataError, DataWarning, MissingDataError
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.scaling import Scaling
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits
from rnode_dyn.data.tables import Rows, open_table

_FILES = {
    "train": ("train.npy",),
    "validation": ("validation.npy", "val.npy"),
    "test": ("test.npy",),
}
_WHOLE = "data.npy"

# Rows that float32 moves by more than this part of a deviation are kept in float64, where a flow
# standardises them; where it does not, float32 is what it sees, and more than the other is refused.
_TELLS = 2.0**-16
_BLURS = 2.0**-7
# What rows may have in them to be standardised, in float64, which holds their differences too.
_LARGEST = 2.0**1000


def describe(request: DataRequest) -> Event:
    """One row; the header of a file is enough to tell, or the request says how many columns."""
    columns = request.columns
    if columns is None:
        columns = _rows(request.root)["train"].array.shape[1]
    given = check_columns(request.condition_columns, columns)
    return Event((columns - len(given),), columns=len(given) or None)


def load(request: DataRequest) -> Splits:
    """The rows as they are, and what brings them to mean 0 and deviation 1 if that was asked for.

    They are float32; to be standardised, float64 where float32 would move them by a part of the
    deviation that tells.
    """
    event, rows = describe(request), _rows(request.root)
    for split in SPLIT_NAMES:
        _check_columns(request, rows[split], event.dims + (event.columns or 0))
    values = {split: _chosen(request, split, rows[split]) for split in SPLIT_NAMES}
    scaling = _scaling(request, rows["train"], values["train"])
    kind = np.float64 if request.standardize and _tells(scaling, values) else np.float32
    tables = [torch.from_numpy(values[split].astype(kind)) for split in SPLIT_NAMES]
    return in_columns(request, event, tables, scaling if request.standardize else None)


def _chosen(request: DataRequest, split: str, rows: Rows) -> np.ndarray:
    chosen = choose(request, split, len(rows.array))
    return rows.values(chosen, _LARGEST) if request.standardize else rows.values(chosen)


def _tells(scaling: Scaling, values: Mapping[str, np.ndarray]) -> bool:
    """Whether float32 would move a value by a part of the deviation that tells."""
    return any(scaling.float32_moves(part).max() > _TELLS for part in values.values())


def _scaling(request: DataRequest, rows: Rows, chosen: np.ndarray) -> Scaling:
    """The training rows' scaling: of all of them, for a smaller choice to be in the same units."""
    if request.standardize:
        rows.values(range(len(rows.array)), _LARGEST)
        scaling = Scaling.of(rows.array)
    else:
        scaling = Scaling.of(chosen)
        _check_resolution(rows.path, scaling, chosen)
    if scaling.constant:
        _tell_constant(rows.path, scaling.constant, request.standardize)
    return scaling


def _check_resolution(path: Path, scaling: Scaling, values: np.ndarray) -> None:
    """Refuse a column that float32 would blur."""
    moved = scaling.float32_moves(values)
    column = int(moved.argmax())
    if moved[column] > _BLURS:
        raise DataError(
            f"{path} has values in column {column} (counted from 0) that float32 cannot tell "
            f"apart: they lie {float(scaling.scale[column]):.3g} around "
            f"{float(scaling.shift[column]):.6g}. Write standardize = true, which keeps them as "
            f"they are, or shift and scale that column."
        )


def _tell_constant(path: Path, columns: Sequence[int], standardize: bool) -> None:
    numbers = ", ".join(map(str, columns))
    where = f"column {numbers}" if len(columns) == 1 else f"columns {numbers}"
    becomes = " Standardised it is 0." if standardize else ""
    warnings.warn(
        f"{path} has the same value in every training row of {where} (counted from 0).{becomes} "
        f"A constant has no density, so that the likelihood grows there without bound as training "
        f"goes on, and compares with no other: leave it out of the file for one that does.",
        DataWarning,
        stacklevel=2,
    )


def _rows(root: Path) -> dict[str, Rows]:
    """The rows of every split."""
    whole, train = root / _WHOLE, root / _FILES["train"][0]
    if not os.path.lexists(whole):
        return {split: Rows(open_table(path), path) for split, path in _find(root).items()}
    if os.path.lexists(train):
        raise DataError(
            f"{root} has both {_WHOLE} and {train.name}, and they may be split differently: "
            f"remove one."
        )
    array = open_table(whole)
    parts = last_tenths(len(array))
    if not all(map(len, parts.values())):
        raise DataError(f"{whole} has {len(array)} rows, too few for three splits: save 20.")
    return {
        split: Rows(array[part.start : part.stop], whole, part.start)
        for split, part in parts.items()
    }


def _find(root: Path) -> dict[str, Path]:
    """The file of every split."""
    found = {}
    for split, names in _FILES.items():
        path = next((root / name for name in names if os.path.lexists(root / name)), None)
        if path is None:
            raise MissingDataError(
                f"npy finds no {' or '.join(names)} in {root}: save an array of floats of shape "
                f"(rows, columns) there with numpy.save, one file for each split, or all rows as "
                f"{_WHOLE} (the last tenth of them tests, of the rest the last tenth validates), "
                f"or set root to the folder that has them."
            )
        found[split] = path
    return found


def _check_columns(request: DataRequest, rows: Rows, columns: int) -> None:
    found = rows.array.shape[1]
    if found != columns:
        other = "columns =" if request.columns else "train.npy has"
        raise DataError(
            f"{rows.path} has {found} columns and {other} {columns}: save the same columns in "
            f"every file, as many as the recipe says."
        )
