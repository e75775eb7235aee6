"""Batches of samples with their conditions, which go through loaders and to devices as one."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.data.indexing import rows_at
from rnode_dyn.data.splits import Split


class Batch:
    """Samples and their conditions, which go through loaders and to devices as one.

    Attributes:
        samples: The samples, `(batch, *event)`.
        condition: Their conditions, a row each.

    >>> batch = Batch(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    >>> len(batch), batch[:2].condition
    (3, tensor([0, 1]))
    """

    def __init__(self, samples: Tensor, condition: Tensor) -> None:
        self.samples, self.condition = samples, condition

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(self.samples[rows], self.condition[rows])

    def split(self, size: int) -> Iterator["Batch"]:
        """Yield the batch in pieces, as a tensor's `split` does."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def to(self, *where: Any, **named: Any) -> "Batch":
        """Move both, as a tensor's `to` does."""
        return Batch(self.samples.to(*where, **named), self.condition.to(*where, **named))

    def pin_memory(self) -> "Batch":
        """Pin both, for a loader that moves them to a GPU."""
        return Batch(self.samples.pin_memory(), self.condition.pin_memory())


AnyBatch = Tensor | Batch


def taken_apart(batch: AnyBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return a batch's samples, and their condition by name if it has any.

    >>> taken_apart(torch.zeros(1))[1], list(taken_apart(Batch(torch.zeros(1), torch.zeros(1)))[1])
    ({}, ['condition'])
    """
    if isinstance(batch, Batch):
        return batch.samples, {"condition": batch.condition}
    return batch, {}


class Paired(Split):
    """A split whose batches have their conditions with them.

    Args:
        split: The samples; of twice as many, mirrored ones, a mirror image has the condition of
            what is mirrored.
        conditions: A row for each sample.
    """

    def __init__(self, split: Split, conditions: Tensor) -> None:
        self.split, self.conditions = split, conditions

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, indices: Sequence[int]) -> Batch:  # type: ignore[override]
        rows = torch.from_numpy(rows_at(indices, len(self)) % len(self.conditions))
        return Batch(self.split.__getitems__(indices), self.conditions.index_select(0, rows))
