"""The data as Lightning takes it: loaders of plain tensors that never hold the training back."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.sampling import EpochShuffle, Mirrored
from rnode_dyn.data.splits import Split, Splits, TensorSplit

_START = {"epoch": 0, "read": 0}


class FlowDataModule(pl.LightningDataModule):
    """Batches of a data set, as integer pixels or float vectors; dequantization comes later.

    Training batches are shuffled anew in every epoch, as a function of seed and epoch. The last,
    incomplete one is dropped unless it is the only one. With several processes, Lightning gives
    each its share; in evaluation it repeats a few samples where the shares would be unequal.

    Args:
        splits: The loaded data set.
        batch_size: Training samples in a batch, for each process.
        eval_batch_size: The same for validation and test; None: `batch_size`.
        flips: Mirror half of the training images, left for right, drawn anew in every epoch.
        workers: Processes that decode images. A split that lies in memory needs none and gets
            none.
        seed: What the order and the flips are drawn from.

    >>> from rnode_dyn.data import load_data
    >>> data = FlowDataModule(load_data("digits"), batch_size=32, seed=1)
    >>> batch = next(iter(data.train_dataloader()))
    >>> batch.shape, batch.dtype
    (torch.Size([32, 1, 8, 8]), torch.uint8)
    """

    def __init__(
        self,
        splits: Splits,
        *,
        batch_size: int,
        eval_batch_size: int | None = None,
        flips: bool = False,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.splits = splits
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.flips = flips
        self.workers = workers
        self.seed = seed
        self._place = dict(_START)
        self._check()

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Shuffled batches of equal size, half of the images mirrored if flips are on."""
        split = self.splits.train
        shuffle = EpochShuffle(len(split), self.seed, mirrored=self.flips)
        shuffle.resume(**self._place)
        return self._loader(
            Mirrored(split) if self.flips else split,
            batch_size=self.batch_size,
            workers=self._workers_for(split),
            sampler=shuffle,
            drop_last=len(split) > self.batch_size,
        )

    def state_dict(self) -> dict[str, int]:
        """How much of which epoch has been read, for a training that goes on.

        Several processes read their epoch again from the start: here the share of each is not
        known.
        """
        if self.trainer is None or self.trainer.world_size > 1:
            return dict(_START)
        ready = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        read = ready * self.batch_size if ready < self.trainer.num_training_batches else 0
        return {"epoch": self.trainer.current_epoch, "read": read}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on there."""
        self._place = dict(state_dict)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Every validation sample once, in order."""
        return self.eval_loader(self.splits.validation)

    def test_dataloader(self) -> DataLoader[Tensor]:
        """Every test sample once, in order."""
        return self.eval_loader(self.splits.test)

    def eval_loader(self, split: Split) -> DataLoader[Tensor]:
        """Every sample of a split once, in order."""
        return self._loader(
            split, batch_size=self.eval_batch_size, workers=self._workers_for(split)
        )

    def _loader(
        self,
        split: Split,
        *,
        batch_size: int,
        workers: int,
        sampler: EpochShuffle | None = None,
        drop_last: bool = False,
    ) -> DataLoader[Tensor]:
        return _BatchLoader(
            split,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_as_it_is,
        )

    def _workers_for(self, split: Split) -> int:
        return 0 if isinstance(split, TensorSplit) else self.workers

    def _check(self) -> None:
        for name in ("batch_size", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} = {getattr(self, name)} is no batch: write 1 or more.")
        if self.workers < 0:
            raise DataError(f"workers = {self.workers} cannot be: write 0 or more.")
        if self.flips and len(self.splits.event_shape) != 3:
            raise DataError(
                f"flips mirror images, and a sample of this data set has the shape "
                f"{self.splits.event_shape}: leave flips out."
            )


class _BatchLoader(DataLoader[Tensor]):
    """Says what a worker process found wrong with the data as if it had happened here."""

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except DataError as error:
            if not self.num_workers:
                raise
            # torch wraps it in the worker's own traceback, which ends in what was said.
            said = str(error).rpartition(f"{DataError.__name__}: ")[2]
            raise DataError(said.strip()) from error


def _as_it_is(batch: Any) -> Any:
    """Collates nothing: a split hands out its batches stacked."""
    return batch
