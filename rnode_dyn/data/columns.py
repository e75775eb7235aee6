"""Which columns of a table are a sample, and which are what it is conditional on."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from rnode_dyn.data.conditions import Conditions
from rnode_dyn.data.errors import DataError
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.scaling import Scaling
from rnode_dyn.data.splits import Event, Splits, TensorSplit


def check_columns(given: Sequence[int], columns: int) -> Sequence[int]:
    """Return the columns of conditions, if a table has them and others besides.

    Raises:
        DataError: It has not, or one comes twice.

    >>> check_columns((2, 2), 4)
    Traceback (most recent call last):
    rnode_dyn.data.errors.DataError: condition_columns has column 2 twice: write each once.
    """
    for column in given:
        if not 0 <= column < columns:
            raise DataError(
                f"condition_columns has column {column}, and the table has {columns}, counted from "
                f"0 to {columns - 1}."
            )
        if list(given).count(column) > 1:
            raise DataError(f"condition_columns has column {column} twice: write each once.")
    if len(given) == columns:
        raise DataError(
            f"condition_columns has all {columns} columns of the table, which leaves none for the "
            "samples."
        )
    return given


def in_columns(
    request: DataRequest, event: Event, tables: Sequence[Tensor], scaling: Scaling | None
) -> Splits:
    """Return the tables of the three splits as samples and conditions.

    Args:
        request: What was asked for.
        event: What one sample looks like.
        tables: All columns of training, validation and test, `(n, columns)` each.
        scaling: Of all columns, where that was asked for.
    """
    given = list(request.condition_columns)
    own = [column for column in range(tables[0].shape[1]) if column not in given]
    train, validation, test = (table[:, own] if given else table for table in tables)
    splits = Splits(event, TensorSplit(train), TensorSplit(validation), TensorSplit(test), scaling)
    if not given:
        return splits
    units = [None if scaling is None else scaling.of_columns(part) for part in (own, given)]
    train, validation, test = (table[:, given] for table in tables)
    conditions = Conditions(train, validation, test, units[1])
    return replace(splits, scaling=units[0], conditions=conditions)
