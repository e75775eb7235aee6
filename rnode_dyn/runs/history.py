"""``metrics.csv``: the figures of all stages in one table, carried over when a run goes on."""

import csv
from typing import Protocol

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.figures import read_together
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.past import Past


class Progress(Protocol):
    """A stage of a training, as its figures are filed."""

    past: Past

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of earlier stages included."""
        ...

    @property
    def updates(self) -> int:
        """Updates of the stage so far."""
        ...


class RunLogger(CSVLogger):
    """Counts steps on over the stages, and adds the stage and the seconds of training.

    Args:
        folder: Where ``metrics.csv`` goes.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.path, name="", version="")
        self.folder = folder
        self._stage: Progress | None = None

    def follow(self, stage: Progress) -> None:
        """Log a stage: its figures come next."""
        self._stage = stage

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Tensor | float], step: int | None = None) -> None:
        """Log figures of the stage that is followed, at a step counted from its start.

        What is found out after an update belongs to it, whatever step Lightning has come to: a
        checkpoint of that update then has it behind itself.
        """
        if self._stage is not None:
            past, seconds = self._stage.past, self._stage.seconds
            metrics = {**metrics, "stage": float(past.stage), "training_s": round(seconds, 3)}
            last = max(0, self._stage.updates - 1)
            step = past.steps + min(step or 0, last)
        super().log_metrics({**read_together(metrics)}, step)

    def restore(self) -> None:
        """Log again what ``metrics.csv`` holds up to the checkpoint; a new logger starts afresh."""
        if not self.folder.metrics.is_file():
            return
        checkpoint = read_checkpoint(self.folder.last_checkpoint)
        reached = checkpoint["rnode_dyn"]["steps"] + checkpoint["global_step"]
        with self.folder.metrics.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            step = row.pop("step", None) or ""
            # A line that was cut off has no step, or a figure that is none.
            if step.isdigit() and int(step) < reached and None not in row.values():
                figures: dict[str, Tensor | float] = {k: float(v) for k, v in row.items() if v}
                super().log_metrics(figures, int(step))
        self.save()
