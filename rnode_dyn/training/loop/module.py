"""The Lightning module: an objective on a flow, and its bits per dimension on held-out data."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.splits import Event
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.flows.layout import lay_out
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.seeding import seeded
from rnode_dyn.runs.past import Past
from rnode_dyn.training.loop.clock import Clock
from rnode_dyn.training.objectives.base import Objective
from rnode_dyn.training.objectives.likelihood import Likelihood

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


class FlowTraining(pl.LightningModule):
    """Trains a flow on an objective.

    Args:
        model: The flow.
        event: What one sample of the data looks like.
        objective: What to minimise; the regularized likelihood when left out.
        optimizer: How to step.
        past: What earlier stages of the training have taken.
    """

    def __init__(
        self,
        model: MultiscaleFlow,
        event: Event,
        objective: Objective | None = None,
        optimizer: OptimizerSettings | None = None,
        past: Past | None = None,
    ) -> None:
        super().__init__()
        self.model, self.event = model, event
        self.objective = Likelihood() if objective is None else objective
        self.validated_at = -1
        self.past = Past() if past is None else past
        self.training_clock = Clock(self.past.training_s)
        self.wall_clock = Clock(self.past.wall_clock_s)
        self.optimizer_settings = OptimizerSettings() if optimizer is None else optimizer

    def dequantize(self, batch: Tensor) -> Tensor:
        """Spread integer pixels over their bins, in the weights' precision.

        Continuous data stay as they are.
        """
        if self.event.levels is None:
            return batch
        return UniformDequantization(self.event.levels)(batch).to(self.dtype)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the loss on a batch, and log its figures."""
        loss = self.objective.loss(self.model, self.dequantize(batch), self.event)
        self.log_dict({f"train/{name}": value for name, value in loss.figures.items()})
        return loss.value

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the bits per dimension of a held-out batch, by the evaluation solver."""
        with seeded(self.device, _VALIDATION_SEED + batch_idx):
            bits = bits_of(self.model(self.dequantize(batch)), self.event)
        self.log("validation/bits_per_dim", bits.mean(), batch_size=len(batch), sync_dist=True)

    @property
    def steps(self) -> int:
        """Optimizer steps so far, those of earlier stages included."""
        return self.past.steps + self.updates

    @property
    def updates(self) -> int:
        """Optimizer steps of this stage."""
        return self.trainer.global_step

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of earlier stages included."""
        return self.training_clock.seconds

    def on_fit_start(self) -> None:
        """Start the clocks, before callbacks prepare the training."""
        lay_out(self.model, self.device)
        self.training_clock.start()
        self.wall_clock.start()

    def on_train_end(self) -> None:
        """Stop the clocks."""
        self.training_clock.pause()
        self.wall_clock.pause()

    def on_validation_start(self) -> None:
        """Validation is no training."""
        self.training_clock.pause()

    def on_validation_end(self) -> None:
        """Go on with the training, if that is what the validation was for."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.training_clock.start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the stage, the times, and which weights were validated."""
        times = {
            "training_s": self.training_clock.seconds,
            "wall_clock_s": self.wall_clock.seconds,
        }
        checkpoint["rnode_dyn"] = {
            **asdict(self.past),
            **times,
            "validated_at": self.validated_at,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the stage, the times, and what was validated."""
        kept = dict(checkpoint["rnode_dyn"])
        self.validated_at = kept.pop("validated_at")
        self.past = Past(**kept)
        self.training_clock = Clock(self.past.training_s)
        self.wall_clock = Clock(self.past.wall_clock_s)

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
