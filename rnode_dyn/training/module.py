"""The Lightning module: an objective on a flow, and its bits per dimension on held-out data."""

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.training.objective import Likelihood, Objective, bits_of

# The noise of validation is the same every time, so that two epochs can be compared.
_VALIDATION_SEED = 20_200_207


@dataclass(frozen=True)
class OptimizerSettings:
    """Adam, with a linear warm-up and perhaps a cosine decay.

    Attributes:
        learning_rate: After the warm-up.
        warmup_steps: Steps over which the rate rises from near 0.
        schedule: What follows: ``"constant"``, or ``"cosine"`` down to 0 at the last step.
        weight_decay: Decoupled weight decay.
    """

    learning_rate: float = 1e-3
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0

    def factor(self, step: int, total: float) -> float:
        """Return the learning rate at ``step`` of ``total``, as a fraction of its peak.

        Example:
            >>> settings = OptimizerSettings(warmup_steps=10, schedule="cosine")
            >>> [round(settings.factor(step, 110), 2) for step in (0, 9, 10, 60, 110)]
            [0.1, 1.0, 1.0, 0.5, 0.0]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        done = (step - self.warmup_steps) / max(1.0, total - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def cuda_devices_of(device: torch.device) -> list[torch.device]:
    """Return the devices whose random state a computation on ``device`` draws from."""
    return [device] if device.type == "cuda" else []


class FlowTraining(pl.LightningModule):
    """Trains a flow on an objective.

    Args:
        model: The flow.
        event: What one sample of the data looks like.
        objective: What to minimise; the regularized likelihood when left out.
        optimizer: How to step.
    """

    def __init__(
        self,
        model: MultiscaleFlow,
        event: Event,
        objective: Objective | None = None,
        optimizer: OptimizerSettings | None = None,
    ) -> None:
        super().__init__()
        self.model, self.event = model, event
        self.objective = Likelihood() if objective is None else objective
        self.validated_at = -1
        self._started = self._seconds_before = 0.0
        self.optimizer_settings = OptimizerSettings() if optimizer is None else optimizer

    def dequantize(self, batch: Tensor) -> Tensor:
        """Spread integer pixels over their bins; continuous data stay as they are."""
        if self.event.levels is None:
            return batch
        return UniformDequantization(self.event.levels)(batch)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the loss on a batch, and log its figures with the evaluations they took."""
        loss = self.objective.loss(self.model, self.dequantize(batch), self.event)
        evaluations = sum(block.stats.nfe for block in self.model.blocks)
        self.log_dict({f"train/{name}": value for name, value in loss.figures.items()})
        self.log("train/evaluations", float(evaluations))
        return loss.value

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the bits per dimension of a held-out batch, by the evaluation solver."""
        with torch.random.fork_rng(cuda_devices_of(self.device)):
            torch.manual_seed(_VALIDATION_SEED + batch_idx)
            bits = bits_of(self.model(self.dequantize(batch)), self.event)
        self.log("validation/bits_per_dim", bits.mean(), batch_size=len(batch), sync_dist=True)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before an interruption included."""
        return self._seconds_before + time.monotonic() - self._started

    def on_train_start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time, and which weights were validated."""
        checkpoint["rnode_dyn"] = {"seconds": self.seconds, "validated_at": self.validated_at}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the time, and with what was validated."""
        self._seconds_before = checkpoint["rnode_dyn"]["seconds"]
        self.validated_at = checkpoint["rnode_dyn"]["validated_at"]

    def on_validation_epoch_end(self) -> None:
        """Remember which step's weights were validated."""
        self.validated_at = self.trainer.global_step

    def configure_optimizers(self) -> Any:
        """Return Adam and its schedule."""
        settings = self.optimizer_settings
        optimizer = torch.optim.AdamW(
            self.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        total = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: settings.factor(step, total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
