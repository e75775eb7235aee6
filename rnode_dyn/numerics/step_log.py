"""Every step that a solve tried: when, how long, how wrong, and whether it was taken."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor


class StepRecord(NamedTuple):
    """One step that was tried.

    Attributes:
        t: Start time.
        dt: Signed length.
        error: The estimated error as a multiple of the tolerance: 1 is the tolerance. NaN where
            no error was estimated, as under fixed steps; infinite where the step left the finite
            numbers.
        accepted: Whether the solve went on from its end.
    """

    t: float
    dt: float
    error: float = math.nan
    accepted: bool = True


class StepLog(Sequence[StepRecord]):
    """The steps of a solve, in the order in which they were tried, rejected ones included.

    A sequence of records; each column is a tensor as well.

    Example:
        >>> log = StepLog([StepRecord(0.0, 1.0, 2.0, False), StepRecord(0.0, 0.5, 0.3)])
        >>> len(log), log[1].dt, log.dt
        (2, 0.5, tensor([1.0000, 0.5000], dtype=torch.float64))
        >>> log.dt[log.accepted]
        tensor([0.5000], dtype=torch.float64)
    """

    def __init__(self, records: Sequence[StepRecord] = ()) -> None:
        self._records = tuple(records)

    @overload
    def __getitem__(self, index: int) -> StepRecord: ...

    @overload
    def __getitem__(self, index: slice) -> "StepLog": ...

    def __getitem__(self, index: int | slice) -> "StepRecord | StepLog":
        """Return one record, or a log of several."""
        found = self._records[index]
        return found if isinstance(found, StepRecord) else StepLog(found)

    def __len__(self) -> int:
        """How many steps were tried."""
        return len(self._records)

    def __iter__(self) -> Iterator[StepRecord]:
        """Pass through the records."""
        return iter(self._records)

    def __repr__(self) -> str:
        return f"StepLog({len(self)} steps, {int(self.accepted.sum())} accepted)"

    @property
    def t(self) -> Tensor:
        """Start times, ``(steps,)``, float64."""
        return self._column("t")

    @property
    def dt(self) -> Tensor:
        """Signed lengths."""
        return self._column("dt")

    @property
    def error(self) -> Tensor:
        """Estimated errors as multiples of the tolerance."""
        return self._column("error")

    @property
    def accepted(self) -> Tensor:
        """Which steps were accepted, boolean."""
        return torch.tensor([record.accepted for record in self], dtype=torch.bool)

    def _column(self, name: str) -> Tensor:
        return torch.tensor([getattr(record, name) for record in self], dtype=torch.float64)
