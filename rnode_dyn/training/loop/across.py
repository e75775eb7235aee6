"""What concerns a step as a whole, where several processes or accumulated parts take it."""

from collections.abc import Sized
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from torch import Tensor

from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.sampling import EveryNth, SharedBatches
from rnode_dyn.flows.share import Share


def batches_read(trainer: pl.Trainer) -> SharedBatches | None:
    """Return which samples the training reads, where our data module says so."""
    sampler = getattr(trainer.train_dataloader, "batch_sampler", None)
    return sampler if isinstance(sampler, SharedBatches) else None


def share_of(trainer: pl.Trainer, batch: Sized, batch_idx: int, seed: int | None) -> Share:
    """Return which rows of its step's batch a training batch is: all, where nothing else is known.

    Args:
        trainer: The trainer.
        batch: The batch.
        batch_idx: Its number in the epoch.
        seed: What the noise of the whole step is drawn from.
    """
    read = batches_read(trainer)
    if read is None:
        return Share(0, len(batch), len(batch) * parts_of(trainer))
    rows = read.rows(batch_idx)
    return Share(rows.start, len(rows), read.whole, seed)


def parts_of(trainer: pl.Trainer) -> int:
    """Return in how many parts a step is taken, which Lightning takes the mean of."""
    return trainer.world_size * trainer.accumulate_grad_batches


def validation_batches(trainer: pl.Trainer) -> EveryNth | None:
    """Return which samples a validation reads, where our data module says so."""
    data: Any = getattr(trainer, "datamodule", None)
    ours = isinstance(data, FlowDataModule)
    return data.eval_batches(data.splits.validation) if ours else None


def number_of(trainer: pl.Trainer, batch_idx: int) -> int | None:
    """Return which of all validation batches this one is; ``None`` for one not to be counted."""
    batches = validation_batches(trainer)
    return batch_idx if batches is None else batches.number(batch_idx)


def summed(trainer: pl.Trainer, values: Tensor) -> Tensor:
    """Add up what the processes have; one process has all."""
    if trainer.world_size == 1:
        return values
    total = trainer.strategy.reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)  # of a tensor
    return total


def told_by_all(trainer: pl.Trainer, words: str) -> list[str]:
    """Return what the processes have to say, the same list in all, what is empty left out."""
    if trainer.world_size == 1:
        return [words] if words else []
    said: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(said, words)
    return [f"process {number}: {each}" for number, each in enumerate(said) if each]
