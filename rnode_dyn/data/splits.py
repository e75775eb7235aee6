"""What a data set is once loaded: what one sample looks like, and three splits of samples."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rnode_dyn.data.conditions import Conditions
from rnode_dyn.data.indexing import is_single, rows_at
from rnode_dyn.data.scaling import Scaling

SPLIT_NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Event:
    """What one sample looks like.

    Attributes:
        shape: The shape of one sample, `(channels, height, width)` or `(dims,)`.
        levels: How many values an integer pixel can take; None for continuous data.
        columns: Numbers in its condition, where that is a vector.
        classes: How many labels its condition can be, where that is one.

    >>> Event((1, 8, 8), levels=17).dims
    64
    """

    shape: tuple[int, ...]
    levels: int | None = None
    columns: int | None = field(default=None, repr=False)
    classes: int | None = field(default=None, repr=False)

    @property
    def is_conditional(self) -> bool:
        """Whether a sample has a condition."""
        return self.columns is not None or self.classes is not None

    @property
    def dims(self) -> int:
        """The number of values in one sample."""
        return math.prod(self.shape)


class Split(Dataset[Tensor], ABC):
    """A data set that is read a batch at a time: many indices in, one stacked tensor out.

    `split[3]` is one sample; `split[:200]`, `split[-5:]` and `split[[0, 7]]` are several, stacked
    as :meth:`head` stacks them. A slice is read when it is asked for: of pictures that do not lie
    in memory, take no more than fit there.

    >>> split = TensorSplit(torch.arange(6.0).reshape(3, 2))
    >>> split[-1], split[:2].shape, split[[2, 0]][:, 0]
    (tensor([4., 5.]), torch.Size([2, 2]), tensor([4., 0.]))
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """The samples at these indices, stacked. A `DataLoader` calls this once per batch."""

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """The sample at an index; for a slice or a list of indices the samples, stacked.

        Raises:
            IndexError: There is no such sample.
            TypeError: The index is no whole number, slice or list of whole numbers.
        """
        if isinstance(index, tuple):
            raise TypeError(
                f"{len(index)} indices with commas between them take no samples, for a split has "
                f"one axis: write split[[0, 1]] for two samples, split[0][1] for a part of one."
            )
        found = self.__getitems__(rows_at(index, len(self)).tolist())
        return found[0] if is_single(index) else found

    def head(self, count: int) -> Tensor:
        """The first `count` samples, stacked (all of them if there are fewer)."""
        if count < 0:
            raise ValueError(f"head takes {count} samples: write 0 or more, or split[{count}:].")
        return self[:count]


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
        return self.samples.index_select(0, torch.from_numpy(rows_at(indices, len(self))))


@dataclass(frozen=True)
class Splits:
    """A loaded data set.

    Attributes:
        event: What one sample looks like.
        train: The samples to train on.
        validation: Those that tell during training how far it is.
        test: Those that are scored in the end.
        scaling: What brings the samples' columns to mean 0 and deviation 1, for the flow to begin
            with; None where that was not asked for. The samples are as they are.
        conditions: What the samples are conditional on; None where they are not.
    """

    event: Event
    train: Split
    validation: Split
    test: Split
    scaling: Scaling | None = None
    conditions: Conditions | None = None

    def conditions_of(self, split: Split) -> Tensor | None:
        """The conditions of one of these splits; None where samples have none."""
        names = [name for name in SPLIT_NAMES if getattr(self, name) is split]
        return getattr(self.conditions, names[0]) if self.conditions and names else None

    def standardised(self) -> "Splits":
        """The same samples in standardised units, for a flow that does not bring them there."""
        scaling = self.scaling
        if scaling is None:
            return self
        train, validation, test = (
            TensorSplit(scaling.apply(part[:])) for part in (self.train, self.validation, self.test)
        )
        return Splits(self.event, train, validation, test)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.event.shape

    @property
    def levels(self) -> int | None:
        """How many values a pixel can take; None for continuous data."""
        return self.event.levels
