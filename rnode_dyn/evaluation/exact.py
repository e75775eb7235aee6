"""Scoring with the trace itself in place of an estimate, where the dimension allows."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rnode_dyn.data.paired import AnyBatch
from rnode_dyn.evaluation.errors import TooManyDimensionsError
from rnode_dyn.flows.divergence import Divergence
from rnode_dyn.flows.multiscale import MultiscaleFlow

# Above it one sample costs as much as a thousand of them by the estimate, and the mean over a
# thousand is known better from those: their noise is divided by √1000, and so is the data's spread.
LARGEST_DIMENSION = 1024
# The Jacobian of a batch is found in one pass; this many of its entries take about a gigabyte in a
# field of 64 channels.
_ENTRIES = 2**20


@contextmanager
def scored_by(model: MultiscaleFlow, divergence: Divergence | None) -> Iterator[None]:
    """Let every block score with this divergence for a while; ``None``: with its own."""
    before = [block.eval_divergence for block in model.blocks]
    for block, own in zip(model.blocks, before, strict=True):
        block.eval_divergence = own if divergence is None else divergence
    try:
        yield
    finally:
        for block, own in zip(model.blocks, before, strict=True):
            block.eval_divergence = own


def check_exact(model: MultiscaleFlow) -> None:
    """Refuse a model whose exact trace nobody can pay for.

    Raises:
        TooManyDimensionsError: with the cost, and what to do instead.
    """
    largest = _largest_dimension(model)
    if largest > LARGEST_DIMENSION:
        raise TooManyDimensionsError(
            f"the exact trace takes one vector-Jacobian product for each of a block's dimensions, "
            f"and this model has blocks of {largest:,}: scoring one sample would cost as much as "
            f"scoring about {largest:,} by the estimate, and more than {LARGEST_DIMENSION:,} are "
            "refused. Take the estimate, whose standard error is part of what is printed; probes "
            "in the recipe's [divergence.eval] makes its noise smaller."
        )


def batches_for_exact(model: MultiscaleFlow, batches: Iterable[AnyBatch]) -> Iterator[AnyBatch]:
    """Cut batches so that the Jacobians of one fit into memory."""
    size = max(1, _ENTRIES // _largest_dimension(model) ** 2)
    for batch in batches:
        yield from batch.split(size)


def _largest_dimension(model: MultiscaleFlow) -> int:
    return max(station.coordinates.numel() for station in model.walk())
