"""Which samples a split of a given size takes: the same ones in every run, whatever its seed."""

from collections.abc import Sequence

import numpy as np

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.request import DataRequest


def fixed_order(count: int) -> list[int]:
    """A permutation of `range(count)` that never changes, so that runs score the same samples."""
    return np.random.default_rng(0).permutation(count).tolist()


def last_tenths(count: int) -> dict[str, range]:
    """The rows of each split where nothing else tells: the last tenth tests, as MAF has it.

    Of what is left the last tenth validates.

    >>> last_tenths(36_488)
    {'train': range(0, 29556), 'validation': range(29556, 32840), 'test': range(32840, 36488)}
    """
    rest = count - count // 10
    train = rest - rest // 10
    return {
        "train": range(train),
        "validation": range(train, rest),
        "test": range(rest, count),
    }


def choose(request: DataRequest, split: str, available: int) -> Sequence[int]:
    """The indices that a split takes of those available; a smaller choice lies in a larger one.

    Raises:
        DataError: More samples are asked for than there are.
    """
    size = request.size_of(split)
    if size is None:
        return range(available)
    if size > available:
        raise DataError(
            f"{split}_size = {size} is more than the {available} samples that {request.name} "
            f"has for it: write {available} or fewer."
        )
    return sorted(fixed_order(available)[:size])
