"""Random numbers known from seed and step, so that resuming repeats a run bit for bit."""

from typing import Any

import pytorch_lightning as pl
import torch

from rnode_dyn.training.loop.module import FlowTraining


class StepSeed(pl.Callback):
    """Seeds torch before every step; the data's order is known from the epoch.

    A run that resumes then draws the same noise as one that never stopped, with nothing to keep
    in the checkpoint, and whatever else has drawn random numbers between. Each process draws its
    own.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the CPU's generator and the GPUs'."""
        steps = pl_module.steps if isinstance(pl_module, FlowTraining) else trainer.global_step
        position = steps * trainer.world_size + trainer.global_rank
        torch.manual_seed((self.seed + 1) * 1_000_000_007 + position)
