"""What is said where one of several processes of a training has ended before the others."""

import pytorch_lightning as pl
import torch.distributed as dist

from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.training.loop.errors import DivergedError, LostProcessError

_SIGNS = ("connection closed", "connection reset", "broken pipe", "timed out", "gloo", "nccl")


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
