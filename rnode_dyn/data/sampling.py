"""The order in which training reads its data, and mirror images: both known from seed and epoch.

Nothing here keeps a state that a checkpoint would have to hold: training that resumes at an epoch
reads the same batches as training that never stopped.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from rnode_dyn.data.splits import Split


class EpochShuffle(Sampler[int]):
    """All indices once, in an order that is a function of seed and epoch alone.

    Lightning calls `set_epoch` at the start of every epoch; with several processes it wraps this
    sampler so that each reads its own share of the order.

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

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(self.size)
        if self.mirrored:
            order += self.size * random.integers(2, size=self.size)
        return iter(order[self._read.get(self.epoch, 0) :].tolist())


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
        count = len(self.images)
        batch = self.images.__getitems__([index % count for index in indices])
        flipped = torch.tensor([index >= count for index in indices])
        return torch.where(flipped[:, None, None, None], batch.flip(-1), batch)
