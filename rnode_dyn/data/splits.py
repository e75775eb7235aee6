"""What a data set is once loaded: what one sample looks like, and three splits of samples."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Event:
    """What one sample looks like.

    Attributes:
        shape: The shape of one sample, `(channels, height, width)` or `(dims,)`.
        levels: How many values an integer pixel can take; None for continuous data.

    >>> Event((1, 8, 8), levels=17).dims
    64
    """

    shape: tuple[int, ...]
    levels: int | None = None

    @property
    def dims(self) -> int:
        """The number of values in one sample."""
        return math.prod(self.shape)


class Split(Dataset[Tensor], ABC):
    """A data set that is read a batch at a time: many indices in, one stacked tensor out."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """The samples at these indices, stacked. A `DataLoader` calls this once per batch."""

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def head(self, count: int) -> Tensor:
        """The first `count` samples, stacked (all of them if there are fewer)."""
        return self.__getitems__(range(min(count, len(self))))


class TensorSplit(Split):
    """Samples that lie in memory as one tensor.

    Args:
        samples: uint8 images `(n, channels, height, width)` or float vectors `(n, dims)`.

    >>> split = TensorSplit(torch.arange(6.0).reshape(3, 2))
    >>> len(split), split[2], split.head(2).shape
    (3, tensor([4., 5.]), torch.Size([2, 2]))
    """

    def __init__(self, samples: Tensor) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        return self.samples.index_select(0, torch.as_tensor(indices, dtype=torch.int64))


@dataclass(frozen=True)
class Splits:
    """A loaded data set: its event and its train, validation and test samples."""

    event: Event
    train: Split
    validation: Split
    test: Split

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.event.shape

    @property
    def levels(self) -> int | None:
        """How many values a pixel can take; None for continuous data."""
        return self.event.levels
