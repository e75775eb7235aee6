"""The order in which training reads its data, and mirror images: both known from seed and epoch.

Nothing here keeps a state that a checkpoint would have to hold: training that resumes at an epoch
reads the same batches as training that never stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.indexing import rows_at
from rnode_dyn.data.splits import Split


class EpochShuffle(Sampler[int]):
    """All indices once, in an order that is a function of seed and epoch alone.

    Lightning calls `set_epoch` at the start of every epoch. All processes know the whole order;
    `SharedBatches` says which of it each reads.

    Args:
        size: How many samples there are.
        seed: Tells one run's orders from another's.
        mirrored: Read a `Mirrored` split: about half of the indices, drawn anew in every epoch,
            are moved up by `size`, where the mirror images are.

    >>> shuffle = EpochShuffle(4, seed=1)
    >>> first = list(shuffle)
    >>> shuffle.set_epoch(1)
    >>> sorted(first), list(shuffle) == first
    ([0, 1, 2, 3], False)
    """

    def __init__(self, size: int, seed: int, *, mirrored: bool = False) -> None:
        self.size = size
        self.seed = seed
        self.mirrored = mirrored
        self.epoch = 0
        self._read: dict[int, int] = {}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is read next."""
        self.epoch = epoch

    def resume(self, epoch: int, read: int) -> None:
        """Leave out what had been read of an epoch when it was interrupted.

        >>> shuffle = EpochShuffle(4, seed=1)
        >>> whole = list(shuffle)
        >>> shuffle.resume(epoch=0, read=3)
        >>> list(shuffle) == whole[3:]
        True
        """
        self._read = {epoch: read}
        # Worker processes read ahead before Lightning has told the epoch.
        self.epoch = epoch

    @property
    def read(self) -> int:
        """How much of the epoch is left out."""
        return self._read.get(self.epoch, 0)

    def order(self) -> list[int]:
        """All indices, in the epoch's order."""
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.size)
        if self.mirrored:
            order += self.size * random.integers(2, size=self.size)
        return order.tolist()

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(self.order()[self.read :])


@dataclass(frozen=True)
class Parts:
    """How the batch of an optimizer step is parted: over processes, and one after another.

    Attributes:
        rank: Number of this process.
        ranks: How many processes there are.
        accumulate: How many parts each takes one after another.
    """

    rank: int = 0
    ranks: int = 1
    accumulate: int = 1

    @property
    def count(self) -> int:
        """Parts of a batch."""
        return self.ranks * self.accumulate

    def rows(self, whole: int, turn: int) -> range:
        """Which rows of a batch are this process's, the parts being as equal as can be.

        Args:
            whole: Rows of the batch.
            turn: Which of the parts that it takes one after another.

        >>> [Parts(rank, ranks=2, accumulate=2).rows(10, turn=1) for rank in (0, 1)]
        [range(5, 7), range(7, 10)]
        """
        part = turn * self.ranks + self.rank
        return range(part * whole // self.count, (part + 1) * whole // self.count)


class SharedBatches(Sampler[list[int]]):
    """The batches that one process would read, of which this one takes its rows.

    Args:
        sampler: The order, which all processes know.
        whole: Rows of the batch of an optimizer step, over all parts. The last, incomplete one is
            dropped unless it is the only one.
        parts: Who takes which.

    Raises:
        DataError: if there are fewer samples than parts.

    >>> order = EpochShuffle(8, seed=0)
    >>> shares = [list(SharedBatches(order, 4, Parts(rank, ranks=2))) for rank in (0, 1)]
    >>> [first + second for first, second in zip(*shares)] == [order.order()[:4], order.order()[4:]]
    True
    """

    def __init__(self, sampler: EpochShuffle, whole: int, parts: Parts) -> None:
        self.sampler, self.parts = sampler, parts
        self.whole = min(whole, len(sampler))
        if self.whole < parts.count:
            raise DataError(
                f"{self.whole} training samples cannot be shared by {parts.count} parts of a step: "
                "take fewer devices, nodes or train.accumulate."
            )

    def rows(self, batch: int) -> range:
        """Which rows of its step's batch are read, given the batch's number in the epoch."""
        return self.parts.rows(self.whole, batch % self.parts.accumulate)

    def indices(self, batch: int) -> list[int]:
        """Return the indices of a batch of this process, given its number in the epoch."""
        start = batch // self.parts.accumulate * self.whole
        rows = self.rows(batch)
        return self.sampler.order()[start + rows.start : start + rows.stop]

    def __len__(self) -> int:
        return len(self.sampler) // self.whole * self.parts.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        order, first = self.sampler.order(), self.sampler.read // self.whole
        for start in range(first * self.whole, len(order) - self.whole + 1, self.whole):
            step = order[start : start + self.whole]
            for turn in range(self.parts.accumulate):
                rows = self.parts.rows(self.whole, turn)
                yield step[rows.start : rows.stop]


class EveryNth(Sampler[list[int]]):
    """Samples in order, in whole batches of which this process takes every n-th.

    A batch is the one that a single process would read, so that its scores are the same to the
    last bit, also where an adaptive solver looks at the whole batch. All processes read equally
    many, since Lightning needs that: what goes beyond the last batch repeats it and is not counted.

    >>> second = EveryNth(5, 2, Parts(rank=1, ranks=2))
    >>> list(second), [second.number(k) for k in range(2)]
    ([[2, 3], [4]], [1, None])
    """

    def __init__(self, size: int, batch_size: int, parts: Parts) -> None:
        self.size, self.batch_size, self.parts = size, batch_size, parts
        self.count = -(-size // batch_size)

    def number(self, batch: int) -> int | None:
        """Which of all batches this process's is; ``None`` for one that is not counted."""
        number = batch * self.parts.ranks + self.parts.rank
        return number if number < self.count else None

    def __len__(self) -> int:
        return -(-self.count // self.parts.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(len(self)):
            number = self.number(batch)
            start = (self.count - 1 if number is None else number) * self.batch_size
            yield list(range(start, min(start + self.batch_size, self.size)))


class Mirrored(Split):
    """A split of images followed by its mirror images: index n + i is image i, left for right.

    >>> from rnode_dyn.data.splits import TensorSplit
    >>> row = torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)
    >>> Mirrored(TensorSplit(row)).head(2).flatten(1)
    tensor([[1, 2, 3],
            [3, 2, 1]], dtype=torch.uint8)
    """

    def __init__(self, images: Split) -> None:
        self.images = images

    def __len__(self) -> int:
        return 2 * len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        rows, count = rows_at(indices, len(self)), len(self.images)
        batch = self.images.__getitems__((rows % count).tolist())
        flipped = torch.from_numpy(rows >= count)
        return torch.where(flipped[:, None, None, None], batch.flip(-1), batch)
