"""The data as Lightning takes it: loaders of plain tensors that never hold the training back."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.paired import Paired
from rnode_dyn.data.sampling import EpochShuffle, EveryNth, Mirrored, Parts, SharedBatches
from rnode_dyn.data.splits import Split, Splits, TensorSplit

_START = {"epoch": 0, "read": 0}


class FlowDataModule(pl.LightningDataModule):
    """Batches of a data set, as integer pixels or float vectors; dequantization comes later.

    Training batches are shuffled anew in every epoch, as a function of seed and epoch. The last,
    incomplete one is dropped unless it is the only one. Several processes, and the parts that are
    accumulated, take rows of the very batch that one process would read; in evaluation they take
    whole batches, each sample once. For that Lightning's trainer is made with
    ``use_distributed_sampler=False``.

    Args:
        splits: The loaded data set.
        batch_size: Training samples in a batch, for each process and accumulated part.
        eval_batch_size: Samples in a batch of validation and test; None: `batch_size`.
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

    @property
    def parts(self) -> Parts:
        """How a step's batch is parted; whole where no trainer says otherwise."""
        if self.trainer is None:
            return Parts()
        trainer = self.trainer
        return Parts(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Shuffled batches of equal size, half of the images mirrored if flips are on."""
        split = self.splits.train
        return self._loader(Mirrored(split) if self.flips else split, self.train_batches())

    def train_batches(self) -> SharedBatches:
        """Which samples the training reads, batch by batch, from where it goes on."""
        shuffle = EpochShuffle(len(self.splits.train), self.seed, mirrored=self.flips)
        shuffle.resume(self._place["epoch"], self._place["read"])
        return SharedBatches(shuffle, self.batch_size * self.parts.count, self.parts)

    def state_dict(self) -> dict[str, int]:
        """How much of which epoch has been read by all, for a training that goes on."""
        if self.trainer is None:
            return dict(_START)
        fit, parts = self.trainer.fit_loop, self.parts
        ready, whole = fit.epoch_loop.batch_progress.current.ready, self.batch_size * parts.count
        within = 0 < ready < self.trainer.num_training_batches
        # Lightning counts an epoch that a limit cuts off as completed.
        epochs = fit.epoch_progress.current
        cut_off = within and epochs.completed == epochs.ready
        return {
            "epoch": self.trainer.current_epoch - cut_off,
            "read": ready // parts.accumulate * whole if within else 0,
            "whole": whole,
            "accumulate": parts.accumulate,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on there, also with another number of processes.

        Raises:
            DataError: where a step has another number of samples now: neither the place in the
                epoch nor the count of steps would be what it was.
        """
        whole, kept = self.batch_size * self.parts.count, state_dict.get("whole")
        if kept not in (None, whole):
            raise DataError(
                f"a step took {kept} samples and would take {whole} now, with which no training "
                "goes on: choose data.batch_size so that, times devices, nodes and "
                f"train.accumulate, it is {kept}."
            )
        self._place = {key: state_dict[key] for key in _START}

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Every validation sample once, in order."""
        return self.eval_loader(self.splits.validation)

    def test_dataloader(self) -> DataLoader[Tensor]:
        """Every test sample once, in order."""
        return self.eval_loader(self.splits.test)

    def eval_loader(self, split: Split) -> DataLoader[Tensor]:
        """Every sample of a split once, in order; several processes take turns at the batches."""
        return self._loader(split, self.eval_batches(split))

    def eval_batches(self, split: Split) -> EveryNth:
        """Which samples of a split an evaluation reads, batch by batch."""
        return EveryNth(len(split), self.eval_batch_size, self.parts)

    def _loader(self, split: Split, batches: Sampler[list[int]]) -> DataLoader[Tensor]:
        workers, conditions = self._workers_for(split), self._conditions_of(split)
        return _BatchLoader(
            split if conditions is None else Paired(split, conditions),
            batch_sampler=batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_as_it_is,
        )

    def _conditions_of(self, split: Split) -> Tensor | None:
        source = split.images if isinstance(split, Mirrored) else split
        return self.splits.conditions_of(source)

    def _workers_for(self, split: Split) -> int:
        source = split.images if isinstance(split, Mirrored) else split
        return 0 if isinstance(source, TensorSplit) else self.workers

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
