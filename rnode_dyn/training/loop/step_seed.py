"""Random numbers known from seed and step, so that resuming repeats a run bit for bit."""

from typing import Any

import pytorch_lightning as pl
import torch

from rnode_dyn.training.loop.across import parts_of
from rnode_dyn.training.loop.module import FlowTraining


class StepSeed(pl.Callback):
    """Seeds torch before every step; the data's order is known from the epoch.

    A run that resumes then draws the same noise as one that never stopped, with nothing to keep
    in the checkpoint, and whatever else has drawn random numbers between. Where a step is taken in
    parts, by several processes or one after another, all know the seed of its noise and take their
    rows of it; what is drawn beside that, each part draws for itself.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the CPU's generator and the GPUs'."""
        ours = isinstance(pl_module, FlowTraining)
        step = pl_module.steps if ours else trainer.global_step
        seed = (self.seed + 1) * 1_000_000_007 + step
        if ours:
            pl_module.step_seed = seed
        torch.manual_seed(seed if parts_of(trainer) == 1 else _of_part(trainer, seed, batch_idx))


def _of_part(trainer: pl.Trainer, seed: int, batch_idx: int) -> int:
    """A seed that no other part of the step has, nor the step's noise."""
    turn = batch_idx % trainer.accumulate_grad_batches
    part = 1 + turn * trainer.world_size + trainer.global_rank
    # The steps of a run differ in lower bits.
    return seed ^ (part << 40)
