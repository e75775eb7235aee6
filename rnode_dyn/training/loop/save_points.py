"""When a training is saved apart from its validations, and what it needs to go on bit for bit."""

import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.history import RunLogger
from rnode_dyn.runs.kept import keep_beside, kept_beside
from rnode_dyn.training.loop.module import FlowTraining
from rnode_dyn.training.loop.place import Place, before_the_batch, place_of, wind_to
from rnode_dyn.training.loop.random_states import random_states, set_random_states
from rnode_dyn.training.loop.stop import Stop

_DATA = "FlowDataModule"


class SavePoints(pl.Callback):
    """Writes ``last.ckpt`` before the first step, every so often, before validations, at the end.

    Asked to stop, it saves where the training is and raises ``KeyboardInterrupt``.

    Args:
        folder: The run.
        every_steps: Optimizer steps between two saves; ``None``: no matter how many.
        every_minutes: Minutes between two saves; ``None``: no matter how many.
        stop: Whether the run has been asked to stop.
        about: What the checkpoints tell of the run, for whoever goes on with it.
        earlier: Callbacks of stages before, of which Lightning keeps nothing: what they found for
            the flow's solves holds in this stage, and is told at the end.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        stop: Stop | None = None,
        about: dict[str, Any] | None = None,
        earlier: Sequence[pl.Callback] = (),
    ) -> None:
        self.earlier = tuple(earlier)
        self.folder, self.stop, self.about = folder, stop, about or {}
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self._saved_step: int | None = None
        self._saved_at = time.monotonic()
        self._validating = self._validation_due = False
        self._goes_on = False
        self._states: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before the first step; or go on with what was kept."""
        if self.stop is not None:
            self.stop.listen()
            self.stop.saves = True
        if not self._goes_on:
            self._save(trainer)
            return
        _adjust_rates(trainer, pl_module)
        if self._states is not None:
            set_random_states(self._states)
        self._saved_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save what the batches before this one have come to, if it is time, or stop."""
        self._validating = False
        with before_the_batch(trainer):
            if trainer.fit_loop.epoch_loop._should_accumulate():
                return
            asked, due = self._decide(trainer)
            if due and trainer.global_step != self._saved_step:
                self._save(trainer)
        if asked:
            raise KeyboardInterrupt

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save before a validation, which may take long."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._validating = self._validation_due = True
            self._save(trainer)
            self._validation_due = False

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop, if asked to: all that counts was saved before."""
        if trainer.state.fn == TrainerFn.FITTING and self._decide(trainer)[0]:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end, which is perhaps still to be validated, before weights are averaged."""
        self._validating = False
        if trainer.fit_loop.done and trainer.global_step != self._saved_step:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop, if asked to."""
        asked = self._decide(trainer)[0]
        self._leave()
        if asked:
            raise KeyboardInterrupt

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """From here on a signal ends the run at once."""
        self._leave()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the place, the length of ``metrics.csv``, the random states, and the run's facts."""
        place = place_of(trainer, validating=self._validating, validation_due=self._validation_due)
        keep_beside(
            checkpoint,
            {
                **self.about,
                "place": vars(place),
                "rows": _rows(trainer),
                "random": random_states(),
                "earlier": [_plain(callback.state_dict()) for callback in self.earlier],
            },
        )
        if _DATA in checkpoint:  # which Lightning has asked for its place by the same counts
            checkpoint[_DATA]["epoch"] = place.next_epoch

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on at the place that was kept."""
        kept, self._goes_on = kept_beside(checkpoint), True
        for callback, found in zip(self.earlier, kept.get("earlier", ()), strict=False):
            callback.load_state_dict(found)
        if "place" in kept:
            place = Place(**kept["place"]).accumulating(trainer.accumulate_grad_batches)
            wind_to(checkpoint, place, ended=0 < trainer.max_steps <= checkpoint["global_step"])
            self._states = kept["random"]

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder.last_checkpoint)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _decide(self, trainer: pl.Trainer) -> tuple[bool, bool]:
        """Whether to stop, and whether to save; the same for all processes."""
        asked = self.stop is not None and self.stop.asked_by is not None
        late = self.every_minutes is not None and (
            time.monotonic() - self._saved_at >= 60 * self.every_minutes
        )
        if trainer.world_size > 1:
            asked, late = (
                trainer.strategy.reduce_boolean_decision(flag, all=False) for flag in (asked, late)
            )
        step = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        return asked, asked or late or step

    def _leave(self) -> None:
        if self.stop is not None:
            self.stop.saves = False


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A callback's state without the weights that it would go back to: its stage is over."""
    return {name: None if isinstance(part, dict) else part for name, part in state.items()}


def _rows(trainer: pl.Trainer) -> int | None:
    """Rows of ``metrics.csv``, which reach the disk before a checkpoint that counts them."""
    if not isinstance(trainer.logger, RunLogger):
        return None
    trainer.logger.file.sync()
    return trainer.logger.file.rows


def _adjust_rates(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Let the recipe's learning rate and weight decay hold, not those that the checkpoint had."""
    if not isinstance(module, FlowTraining):
        return
    settings = module.optimizer_settings
    total = trainer.estimated_stepping_batches
    schedule: Any = trainer.lr_scheduler_configs[0].scheduler
    rate = settings.learning_rate * settings.factor(schedule.last_epoch, total)
    schedule.base_lrs = [settings.learning_rate] * len(schedule.base_lrs)
    schedule._last_lr = [rate] * len(schedule.base_lrs)
    for group in trainer.optimizers[0].param_groups:
        group["initial_lr"], group["lr"] = settings.learning_rate, rate
        if settings.kind is None:
            group["weight_decay"] = settings.weight_decay
