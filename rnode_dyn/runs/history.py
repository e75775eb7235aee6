"""``metrics.csv``: the figures of all stages in one table, carried over when a run goes on."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.figures import read_together
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.kept import kept_beside
from rnode_dyn.runs.metrics_file import MetricsFile, read_rows
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


class RunLogger(Logger):
    """Counts steps on over the stages, and adds the stage and the seconds of training.

    Lightning's own rewrites its table when a figure of a new name comes, and keeps up to a hundred
    steps to itself.

    Args:
        folder: Where ``metrics.csv`` goes.
        others: Loggers that are told the same figures at the same steps; more may be added.
    """

    def __init__(self, folder: RunFolder, others: Sequence[Logger] = ()) -> None:
        super().__init__()
        self.folder, self.others = folder, others
        self.file = MetricsFile(folder.metrics)
        self._stage: Progress | None = None

    @property
    def name(self) -> str:
        """No folder of its own within the run's."""
        return ""

    @property
    def version(self) -> str:
        """No folder of its own within the run's."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.folder.path)

    def follow(self, stage: Progress) -> None:
        """Log a stage: its figures come next."""
        self._stage = stage

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Tensor | float], step: int | None = None) -> None:
        """Log figures of the stage that is followed, at a step counted from its start.

        What is found out after an update belongs to it, whatever step Lightning has come to: a
        checkpoint of that update then has it behind itself.

        Raises:
            SaveError: if they cannot be written.
        """
        if self._stage is not None:
            past, seconds = self._stage.past, self._stage.seconds
            metrics = {**metrics, "stage": float(past.stage), "training_s": round(seconds, 3)}
            last = max(0, self._stage.updates - 1)
            step = past.steps + min(step or 0, last)
        row, step = read_together(metrics), self.file.rows if step is None else step
        self.file.append({**row, "step": step})
        for other in self.others:
            other.log_metrics(row, step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Tell the other loggers; the recipe is in ``recipe.toml``."""
        for other in self.others:
            other.log_hyperparams(params, *args, **kwargs)

    @rank_zero_only
    def save(self) -> None:
        """Let what was logged reach the disk, soon."""
        self.file.sync(now=False)
        for other in self.others:
            other.save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Let what was logged reach the disk."""
        self.file.sync()
        for other in self.others:
            other.finalize(status)

    @rank_zero_only
    def restore(self) -> None:
        """Go on behind the rows that the last checkpoint knows of; later ones will come again."""
        checkpoint = read_checkpoint(self.folder.last_checkpoint)
        rows = kept_beside(checkpoint).get("rows")
        if rows is None:  # an older version's
            rows = self._rows_until(checkpoint["rnode_dyn"]["steps"] + checkpoint["global_step"])
        self.file.keep(rows)

    def _rows_until(self, reached: int) -> int:
        """How many rows come before the first one of a step that had not been taken."""
        steps = [row.get("step", "") for row in read_rows(self.folder.metrics)]
        later = (k for k, step in enumerate(steps) if not step.isdigit() or int(step) >= reached)
        return next(later, len(steps))
