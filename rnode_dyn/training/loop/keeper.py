"""Checkpoints: the last weights and the best, over all stages of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from rnode_dyn.runs.checkpoint_files import CheckpointFiles
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.folder import RunFolder


class Keeper(ModelCheckpoint):
    """Writes ``last.ckpt``, and ``best.ckpt`` by held-out bits per dimension.

    Args:
        folder: The run's folder.
        validates: Whether there are held-out bits per dimension; else the last weights are the
            best.
    """

    def __init__(self, folder: RunFolder, validates: bool = True) -> None:
        super().__init__(
            folder.checkpoints,
            filename="best",
            monitor="validation/bits_per_dim" if validates else None,
            save_last=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.folder = folder

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See to it that checkpoints are whole, whoever writes them."""
        trainer.strategy.checkpoint_io = CheckpointFiles(self.folder)
        super().setup(trainer, pl_module, stage)

    def follow(self, earlier: "Keeper") -> None:
        """Go on from an earlier stage: its best weights stay until better ones come."""
        self.load_state_dict(earlier.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best score so far, also where the run's folder has been moved."""
        best, last = (
            self._named(self.folder.best_checkpoint),
            self._named(self.folder.last_checkpoint),
        )
        here: dict[str, Any] = {"dirpath": self.dirpath}
        if state_dict["best_model_path"] and not self.folder.best_checkpoint.is_file():
            return  # it was damaged: what comes next is the best
        if state_dict["best_model_path"]:
            scores = {best: state_dict["best_model_score"]}
            here |= {"best_k_models": scores, "best_model_path": best, "kth_best_model_path": best}
        if state_dict["last_model_path"]:
            here["last_model_path"] = last
        super().load_state_dict({**state_dict, **here})
        self.current_score = state_dict["current_score"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last weights also where they are not the best, which Lightning leaves out."""
        super().on_validation_end(trainer, pl_module)
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if training and self._last_global_step_saved != trainer.global_step:
            trainer.save_checkpoint(self.folder.last_checkpoint)

    def keep_the_last(self, trainer: pl.Trainer) -> None:
        """Save the last weights as the best, where nothing is held out that would tell."""
        trainer.save_checkpoint(self.folder.best_checkpoint)
        with self._trained_weights(trainer.lightning_module):
            trainer.save_checkpoint(self.folder.last_checkpoint)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save nothing here, where Lightning would: weights may have been averaged by now."""

    def keep_the_end(self, trainer: pl.Trainer, bits: float) -> None:
        """Save what a limit cut off between two validations, ``bits`` being its score."""
        best = self.best_model_score
        if best is None or bits < float(best):
            path, score = self._named(self.folder.best_checkpoint), torch.tensor(bits)
            self.best_k_models = {path: score}
            self.best_model_path = self.kth_best_model_path = path
            self.best_model_score = self.kth_value = score
            trainer.save_checkpoint(path)
        # Saved behind the best, whose score it holds: a run that goes on compares with that.
        with self._trained_weights(trainer.lightning_module):
            trainer.save_checkpoint(self.folder.last_checkpoint)

    def _named(self, checkpoint: Path) -> str:
        """Return what Lightning calls a file: from the root, and without links.

        By any other name it would take the file for an old one, and remove it once it is written.
        """
        assert self.dirpath is not None  # we have given one
        return str(Path(self.dirpath, checkpoint.name))

    @contextmanager
    def _trained_weights(self, module: pl.LightningModule) -> Iterator[None]:
        """Give a module that has been given the average of its weights the weights themselves.

        A run that is to train on goes on from them.
        """
        trained = read_checkpoint(self.folder.last_checkpoint).get("current_model_state")
        average = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(average if trained is None else trained)
        try:
            yield
        finally:
            module.load_state_dict(average)
