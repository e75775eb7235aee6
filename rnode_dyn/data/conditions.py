"""What the samples of a data set are conditional on: labels, or vectors."""

from dataclasses import dataclass

from torch import Tensor

from rnode_dyn.data.scaling import Scaling


@dataclass(frozen=True)
class Conditions:
    """The conditions of a data set's samples, split by split in their order.

    Attributes:
        train: Of the training samples: labels `(n,)` int64, or float vectors `(n, columns)`.
        validation: Of those that validate.
        test: Of those that are scored in the end.
        scaling: What brings columns to mean 0 and deviation 1, where that was asked for.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    scaling: Scaling | None = None
