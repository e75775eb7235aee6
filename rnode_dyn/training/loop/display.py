"""What a person sees while a flow trains: a progress display, or plain lines without a terminal."""

import math
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from rnode_dyn.runs.figures import read_together

# As often as the screen is drawn. To show a figure is to wait until a GPU has found it.
_SECONDS_BETWEEN_FIGURES = 0.25
_SHOWN = {
    "train/bits_per_dim": ("bits/dim", ".3f"),
    "train/matching": ("matching", ".3f"),
    "train/kinetic_energy": ("kinetic", ".3g"),
    "train/jacobian_frobenius": ("jacobian", ".3g"),
    "train/evaluations": ("evaluations", ".0f"),
    "validation/bits_per_dim": ("held-out bits/dim", ".3f"),
}


class TrainingDisplay(pl.Callback):
    """Shows step, bits/dim, penalties, evaluations and the time left.

    Args:
        console: Where to; on anything but a terminal, one plain line now and then.
        seconds_between_lines: How often a plain line is written.
        max_seconds: Time limit of the training, where there is one.
        name: What trains, where that is one of several stages.
    """

    def __init__(
        self,
        console: Console,
        seconds_between_lines: float = 10.0,
        max_seconds: float | None = None,
        name: str = "",
    ) -> None:
        self.console = console
        self.seconds_between_lines = seconds_between_lines
        self.max_seconds, self.name = max_seconds, name
        self.started = self.last_line = self.last_figures = 0.0
        self.first_step = 0
        self.live: Live | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the display."""
        self.started = self.last_line = time.monotonic()
        self.first_step = trainer.global_step
        if self.name:
            self.console.print(self.name, style="bold", highlight=False)
        if not self.console.is_terminal:
            return
        self.progress = Progress(
            TextColumn("[bold]step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("[dim]left {task.fields[left]}"),
        )
        self.task = self.progress.add_task("", total=_total_steps(trainer), left="")
        self.figures = Text()
        self.live = Live(Group(self.progress, self.figures), console=self.console)
        self.live.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Show the newest figures."""
        if self.live is not None:
            left = self._seconds_left(trainer, _total_steps(trainer))
            shown = "" if left is None else _clock(left)
            self.progress.update(self.task, completed=trainer.global_step, left=shown)
            self._show_figures(trainer, _SECONDS_BETWEEN_FIGURES)
        elif time.monotonic() - self.last_line >= self.seconds_between_lines:
            self._write_line(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the last figures standing."""
        if self.live is None:
            self._write_line(trainer)
        else:
            self._show_figures(trainer, seconds_between=0.0)
        self._stop()

    def on_exception(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        exception: BaseException,
    ) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _show_figures(self, trainer: pl.Trainer, seconds_between: float) -> None:
        now = time.monotonic()
        if not self.figures.plain or now - self.last_figures >= seconds_between:
            self.figures.plain, self.last_figures = _figures(trainer), now

    def _write_line(self, trainer: pl.Trainer) -> None:
        self.last_line = time.monotonic()
        total = _total_steps(trainer)
        step = f"step {trainer.global_step}" + ("" if total is None else f"/{total}")
        left = self._seconds_left(trainer, total)
        tail = "" if left is None else f"  left {_clock(left)}"
        self.console.print(f"{step}  {_figures(trainer)}{tail}", highlight=False, soft_wrap=True)

    def _seconds_left(self, trainer: pl.Trainer, total: int | None) -> float | None:
        elapsed = time.monotonic() - self.started
        done = trainer.global_step - self.first_step
        limits = [] if self.max_seconds is None else [self.max_seconds - elapsed]
        if total is not None and done > 0:
            limits.append(elapsed / done * (total - trainer.global_step))
        return max(0.0, min(limits)) if limits else None


def _total_steps(trainer: pl.Trainer) -> int | None:
    """How many steps the training takes, where epochs or steps limit it."""
    total = trainer.estimated_stepping_batches
    return int(total) if math.isfinite(total) else None


def _figures(trainer: pl.Trainer) -> str:
    metrics = trainer.callback_metrics
    shown = read_together({key: metrics[key] for key in _SHOWN if key in metrics})
    return "  ".join(f"{_SHOWN[key][0]} {figure:{_SHOWN[key][1]}}" for key, figure in shown.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
