"""What is said where one of several processes of a training has ended before the others."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch.distributed as dist

from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.training.loop.errors import DivergedError, LostProcessError

_SIGNS = ("connection closed", "connection reset", "broken pipe", "timed out", "gloo", "nccl")


@contextmanager
def naming_lost_processes(trainer: pl.Trainer) -> Iterator[None]:
    """Say of an error in talking to other processes that one has been lost.

    Raises:
        LostProcessError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        lost = lost_process(trainer, error)
        if lost is None:
            raise
        raise lost from error


def lost_process(trainer: pl.Trainer, error: RuntimeError) -> LostProcessError | None:
    """Return what an error in talking to other processes means; ``None`` for any other error.

    Torch raises a bare ``RuntimeError`` of gloo's, which only its words tell from others.
    """
    if trainer.world_size == 1 or isinstance(error, SolverError | DivergedError):
        return None
    of_talking = any(sign in str(error).lower() for sign in _SIGNS)
    if not (isinstance(error, dist.DistError) or of_talking):
        return None
    return LostProcessError(
        f"process {trainer.global_rank} of {trainer.world_size} has lost another one, which was "
        f"killed or failed: what it printed says why, if it could. All end. ({_gist(error)})"
    )


def _gist(error: RuntimeError) -> str:
    """The first sentence, without the place in gloo's source that stands before it."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split("] ", 1)[-1].split(". ")[0]
