"""What brings each column of a table to mean 0 and deviation 1, found from the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# A column is constant that spans no more than so many steps of its own type, or such a part of its
# values: what rounding leaves of a constant, and nothing that has a density.
_STEPS = 4
_PART = 2.0**-46
_EPS32 = float(np.finfo(np.float32).eps)
_TINY = 2.0**-1000  # float64 ends at 2**-1074, bit by bit from 2**-1022 on


@dataclass(frozen=True)
class Scaling:
    """What is taken off each column, and what it is then divided by.

    Attributes:
        shift: The training rows' mean, of a constant column its value; float64 `(columns,)`.
        scale: Their standard deviation; 1 in a constant column.
        rounding: How far a value of a constant column may lie from `shift` and be no more than
            rounded; 0 in all others.
        constant: The constant columns, counted from 0.

    >>> scaling = Scaling.of(np.array([[1.0, 0.1], [3.0, 0.1]]))
    >>> scaling.shift.tolist(), scaling.scale.tolist(), scaling.constant
    ([2.0, 0.1], [1.0, 1.0], (1,))
    """

    shift: Tensor
    scale: Tensor
    rounding: Tensor
    constant: tuple[int, ...]

    @classmethod
    def of(cls, rows: np.ndarray) -> "Scaling":
        """The scaling of finite floats, `(rows, columns)`.

        A column that is constant up to the rounding of its type has no deviation: what is left of
        it is error, and dividing by it would make an error of 1 of that.
        """
        columns = [_measured(rows[:, number]) for number in range(rows.shape[1])]
        shift, scale, rounding = (
            torch.tensor(numbers, dtype=torch.float64)
            for numbers in zip(*(column[:3] for column in columns), strict=True)
        )
        constant = tuple(i for i, column in enumerate(columns) if column.constant)
        return cls(shift, scale, rounding, constant)

    def of_columns(self, columns: Sequence[int]) -> "Scaling":
        """The scaling of some of the columns, in this order.

        >>> Scaling.of(np.array([[1.0, 0.1], [3.0, 0.1]])).of_columns([1]).constant
        (0,)
        """
        chosen = torch.tensor(columns, dtype=torch.long)
        constant = tuple(i for i, column in enumerate(columns) if column in self.constant)
        return Scaling(self.shift[chosen], self.scale[chosen], self.rounding[chosen], constant)

    def apply(self, rows: Tensor) -> Tensor:
        """Rows in standardised units, computed in float64 and rounded to float32.

        >>> Scaling.of(np.array([[1.0], [3.0]])).apply(torch.tensor([[5.0]]))
        tensor([[3.]])
        """
        off = rows.double() - self.shift
        off = torch.where(off.abs() <= self.rounding, 0.0, off)
        return (off / self.scale).float()

    def float32_moves(self, rows: np.ndarray) -> np.ndarray:
        """How far float32 moves a value, at most, in deviations; 0 in constant columns.

        >>> rows = 1e6 + np.arange(4.0)[:, None] / 32
        >>> bool(Scaling.of(rows).float32_moves(rows)[0] > 0.4)
        True
        """
        with np.errstate(over="ignore"):  # what float32 cannot hold is moved without end
            moved = [abs(column - column.astype(np.float32)).max() for column in rows.T]
        moved = np.asarray(moved) / self.scale.numpy()
        return np.where(np.isfinite(moved) & (self.rounding > 0).numpy(), 0.0, moved)


class _Column(NamedTuple):
    shift: float
    scale: float
    rounding: float
    constant: bool


def _measured(column: np.ndarray) -> _Column:
    values = column.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    middle, size = low / 2 + high / 2, max(abs(low), abs(high))
    # Steps of float16 are so wide that a few of them are values, not rounding.
    part = max(_PART, _STEPS * min(float(np.finfo(column.dtype).eps), _EPS32))
    if high - low <= max(part * size, _TINY):
        # Rows may be kept in float32, which rounds as well.
        rounding = max(max(part, _EPS32) * size, high - low)
        return _Column(middle, 1.0, rounding, constant=True)
    # Between -1 and 1: squares of small values would vanish, sums of large ones have no end.
    half = (high - low) / 2
    parts = (values - middle) / half
    return _Column(middle + half * float(parts.mean()), half * float(parts.std()), 0.0, False)
