"""The score of a validation, each sample counted once, whatever the number of processes."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnode_dyn.training.loop.across import summed, validation_batches


class HeldOut:
    """Scores batch by batch; the mean adds them up in the batches' order, in 64 bits.

    It is so the same number to the last bit, whoever scored which batch.
    """

    def __init__(self) -> None:
        self.batches: dict[int, tuple[float, int]] = {}

    def add(self, number: int, bits: Tensor) -> None:
        """Take in the bits/dim of a batch, ``(batch,)``."""
        self.batches[number] = (float(bits.cpu().double().sum()), len(bits))

    def mean(self, trainer: pl.Trainer) -> float | None:
        """Mean over the samples of all processes; ``None`` where there are none."""
        everyone = validation_batches(trainer)
        here = 1 + max(self.batches, default=-1)
        table = torch.zeros(2, here if everyone is None else everyone.count, dtype=torch.float64)
        for number, (total, count) in self.batches.items():
            table[0, number], table[1, number] = total, count
        if trainer.world_size > 1:
            table = summed(trainer, table.to(trainer.strategy.root_device))
        total, count = table.sum(1).tolist()
        return total / count if count else None
