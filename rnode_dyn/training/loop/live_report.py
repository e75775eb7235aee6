"""A run's ``report.html`` while it trains."""

import time

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from rnode_dyn.report.html import write_report
from rnode_dyn.runs.folder import RunFolder

_SECONDS_BETWEEN_REPORTS = 30.0


class LiveReport(pl.Callback):
    """Writes the report after a validation, where the last one is some while ago.

    Args:
        folder: The run.
        seconds: The least between two reports: drawing one takes about a second.
    """

    def __init__(self, folder: RunFolder, seconds: float = _SECONDS_BETWEEN_REPORTS) -> None:
        self.folder, self.seconds = folder, seconds
        self._written = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, if it is time; the module's clock of training stands still meanwhile."""
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        late = time.monotonic() - self._written >= self.seconds
        if training and late and trainer.is_global_zero:
            write_report(self.folder)
            self._written = time.monotonic()
