"""Where in its epochs a training stands, and how Lightning is told to go on from there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl


@dataclass(frozen=True)
class Place:
    """Between two batches, with all that is done after the first of them behind, or all but one.

    Attributes:
        epoch: Number of the epoch, from 0.
        batch: Batches of it that are done.
        batches: Batches of an epoch.
        total: Batches of all epochs that are done.
        stepped: Optimizer steps that are done, as Lightning counts them for its loggers.
        accumulate: Batches to an optimizer step.
        validation_due: Whether the validation after the last batch is still to come.
    """

    epoch: int
    batch: int
    batches: int
    total: int
    stepped: int
    accumulate: int = 1
    validation_due: bool = False

    @property
    def at_the_start(self) -> bool:
        """Whether nothing has been trained on."""
        return self.total == 0

    @property
    def ends_the_epoch(self) -> bool:
        """Whether what comes next is another epoch's."""
        return self.batch >= self.batches and not self.validation_due

    @property
    def next_epoch(self) -> int:
        """The epoch of what comes next."""
        return self.epoch + 1 if self.ends_the_epoch else self.epoch

    def accumulating(self, accumulate: int) -> "Place":
        """Return the same place where so many batches make a step."""
        parts = {name: getattr(self, name) for name in ("batch", "batches", "total")}
        anew = {name: n // self.accumulate * accumulate for name, n in parts.items()}
        return Place(
            self.epoch,
            **anew,
            stepped=self.stepped,
            accumulate=accumulate,
            validation_due=self.validation_due,
        )


def place_of(trainer: pl.Trainer, *, validating: bool, validation_due: bool) -> Place:
    """Return where a trainer stands, between two batches.

    Args:
        trainer: The trainer.
        validating: Whether it is in a validation, or just behind one: Lightning counts the step
            that led there as done only afterwards. So it does with one that it goes on from.
        validation_due: Whether that validation is still to come.
    """
    loop = trainer.fit_loop
    progress = loop.epoch_loop.batch_progress
    epoch, batch, batches = trainer.current_epoch, progress.current.ready, _batches(trainer)
    if batch and loop.epoch_progress.current.completed == loop.epoch_progress.current.ready:
        epoch -= 1  # at the end of a training, which counts an epoch that it cuts off as done
    elif not batch and epoch:
        epoch, batch = epoch - 1, batches
    return Place(
        epoch,
        batch,
        batches,
        total=progress.total.ready,
        stepped=loop.epoch_loop._batches_that_stepped + (validating or loop.epoch_loop.restarting),
        accumulate=trainer.accumulate_grad_batches,
        validation_due=validation_due,
    )


@contextmanager
def before_the_batch(trainer: pl.Trainer) -> Iterator[None]:
    """Let a batch that has been fetched, and not trained on, count as not fetched."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    for counts in (progress.total, progress.current):
        counts.ready -= 1
    try:
        yield
    finally:
        for counts in (progress.total, progress.current):
            counts.ready += 1


def wind_to(checkpoint: dict[str, Any], place: Place, *, ended: bool = False) -> None:
    """Rewrite Lightning's own counts in a checkpoint, so that it goes on at a place, in place.

    Lightning knows how to go on from some of the moments at which it can be asked to save: after
    a batch that no validation follows, and in the midst of a validation. From others it repeats
    a log, skips a validation or begins another epoch. So every place is told as one of those two.

    Args:
        checkpoint: As Lightning has read it.
        place: Where to go on.
        ended: Whether a limit of steps has ended the training there: an epoch that it has cut off
            counts as done.
    """
    if place.at_the_start:
        checkpoint.pop("loops", None)
        return
    loops = checkpoint["loops"]["fit_loop"]
    due, epoch = place.validation_due, place.next_epoch
    done = epoch + 1 if ended and not due and not place.ends_the_epoch else epoch
    loops["epoch_progress"] = _twice(_counts(epoch + 1, epoch + 1, done, done))
    batch, open_batches = 0 if place.ends_the_epoch else place.batch, 0 if due else 1
    loops["epoch_loop.batch_progress"] = {
        "current": _counts(batch, batch, batch, batch - open_batches),
        "total": _counts(place.total, place.total, place.total, place.total - open_batches),
        "is_last_batch": due and batch >= place.batches,
    }
    # Lightning counts the step itself: behind the validation, or when it begins.
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = place.stepped - 1
    begun = int(due)
    loops["epoch_loop.val_loop.batch_progress"] = {
        **_twice(_counts(begun, begun, 0, 0)),
        "is_last_batch": False,
    }


def _batches(trainer: pl.Trainer) -> int:
    return int(trainer.num_training_batches)


def _counts(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}


def _twice(counts: dict[str, int]) -> dict[str, Any]:
    return {"current": dict(counts), "total": dict(counts)}
