"""The loaders: every sample once, in orders that repeat, without holding anything back."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rnode_dyn.data import (
    DataError,
    Event,
    FlowDataModule,
    Splits,
    TensorSplit,
    load_data,
    pictures,
)
from rnode_dyn.data.sampling import EpochShuffle, EveryNth, Mirrored, Parts, SharedBatches

COUNT = 10


@pytest.fixture
def splits() -> Splits:
    """Images that tell which they are (their middle pixel) and whether they are mirrored."""
    images = torch.arange(COUNT, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 3, 3)
    images[..., 0], images[..., 2] = 0, 1
    part = TensorSplit(images)
    return Splits(Event((1, 3, 3), 256), part, part, part)


def epoch(loader: DataLoader[Tensor], number: int = 0) -> list[Tensor]:
    sampler = getattr(loader.batch_sampler, "sampler", None)
    if isinstance(sampler, EpochShuffle):
        sampler.set_epoch(number)
    return list(loader)


def identities(batches: list[Tensor]) -> list[int]:
    return torch.cat(batches)[:, 0, 0, 1].tolist()


def mirrored(batches: list[Tensor]) -> list[bool]:
    return (torch.cat(batches)[:, 0, 0, 0] == 1).tolist()


@pytest.mark.parametrize("flips", [False, True])
def test_an_epoch_reads_every_sample_once(splits: Splits, flips: bool) -> None:
    loader = FlowDataModule(splits, batch_size=5, flips=flips).train_dataloader()
    batches = epoch(loader)
    assert [len(batch) for batch in batches] == [5, 5]
    assert sorted(identities(batches)) == list(range(COUNT))
    assert all(batch.dtype == torch.uint8 for batch in batches)


def test_orders_differ_by_epoch_and_seed_and_repeat(splits: Splits) -> None:
    def order(seed: int, number: int) -> tuple[int, ...]:
        loader = FlowDataModule(splits, batch_size=5, seed=seed).train_dataloader()
        return tuple(identities(epoch(loader, number)))

    keys = [(seed, number) for seed in range(4) for number in range(4)]
    orders = [order(*key) for key in keys]
    assert len(set(orders)) == len(keys)
    assert [order(*key) for key in reversed(keys)] == orders[::-1]
    torch.manual_seed(123)  # no global state takes part
    assert order(*keys[0]) == orders[0]


def test_flips_are_half_and_new_in_every_epoch(splits: Splits) -> None:
    loader = FlowDataModule(splits, batch_size=5, flips=True).train_dataloader()
    flipped = [tuple(mirrored(epoch(loader, number))) for number in range(100)]
    assert len(set(flipped)) > 90
    # 1000 fair coins: 500 ± 16.
    assert 420 < sum(map(sum, flipped)) < 580


@pytest.mark.parametrize(("batch_size", "lengths"), [(4, [4, 4]), (10, [10]), (32, [10])])
def test_an_incomplete_batch_is_dropped_unless_it_is_the_only_one(
    splits: Splits, batch_size: int, lengths: list[int]
) -> None:
    loader = FlowDataModule(splits, batch_size=batch_size).train_dataloader()
    assert [len(batch) for batch in loader] == lengths
    assert len(loader) == len(lengths)


@pytest.mark.parametrize("which", ["val_dataloader", "test_dataloader"])
def test_evaluation_reads_everything_in_order_unmirrored(splits: Splits, which: str) -> None:
    data = FlowDataModule(splits, batch_size=5, eval_batch_size=4, flips=True)
    batches = list(getattr(data, which)())
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert identities(batches) == list(range(COUNT))
    assert not any(mirrored(batches))


def test_vectors_come_as_floats() -> None:
    data = FlowDataModule(load_data("moons", train_size=64), batch_size=16)
    batch = next(iter(data.train_dataloader()))
    assert batch.shape == (16, 2)
    assert batch.dtype == torch.float32


@pytest.mark.parametrize("name", ["folder", "celeba", "imagenet64"])
@pytest.mark.parametrize("flips", [False, True])
def test_worker_processes_change_no_batch(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, flips: bool
) -> None:
    monkeypatch.setattr(pictures, "IN_MEMORY_BYTES", 0)
    lazy = load_data(name, root=roots[name])
    here, there = (
        FlowDataModule(lazy, batch_size=9, workers=n, flips=flips).train_dataloader()
        for n in (0, 1)
    )
    assert there.num_workers == 1
    for number in (0, 1):
        assert torch.equal(torch.cat(epoch(here, number)), torch.cat(epoch(there, number)))


def test_data_in_memory_needs_no_workers(splits: Splits) -> None:
    assert FlowDataModule(splits, batch_size=5, workers=4).train_dataloader().num_workers == 0


@pytest.mark.parametrize("mirror", [False, True])
def test_a_batch_is_one_indexing(splits: Splits, mirror: bool) -> None:
    class Counting(TensorSplit):
        calls = 0

        def __getitems__(self, indices):
            self.calls += 1
            return super().__getitems__(indices)

    counting = Counting(splits.train.head(COUNT))
    data = FlowDataModule(
        Splits(splits.event, counting, counting, counting), batch_size=5, flips=mirror
    )
    assert len(list(data.train_dataloader())) == counting.calls == 2


@pytest.mark.parametrize(("ranks", "accumulate"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("whole", [24, 7, 100])
def test_parts_make_the_batches_of_one_process(ranks: int, accumulate: int, whole: int) -> None:
    """Also where they are unequal, and where the only batch is incomplete."""
    order = EpochShuffle(60, seed=1)
    order.set_epoch(3)
    expected = list(SharedBatches(order, whole, Parts()))
    shares = [
        iter(SharedBatches(order, whole, Parts(rank, ranks, accumulate))) for rank in range(ranks)
    ]
    for batch in expected:
        parts = [next(share) for _ in range(accumulate) for share in shares]
        assert [i for part in parts for i in part] == batch
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(next(share, None) is None for share in shares)


def test_a_process_knows_which_samples_a_batch_had() -> None:
    batches = SharedBatches(EpochShuffle(60, seed=1), 8, Parts(1, ranks=2, accumulate=2))
    assert [batches.indices(number) for number in range(len(batches))] == list(batches)


def test_samples_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(DataError, match="3 training samples cannot be shared by 4 parts"):
        SharedBatches(EpochShuffle(3, seed=0), 8, Parts(0, ranks=2, accumulate=2))


@pytest.mark.parametrize("ranks", [1, 2, 4, 7])
@pytest.mark.parametrize("size", [1, 5, 20, 23])
def test_evaluation_counts_every_sample_once(ranks: int, size: int) -> None:
    shares = [EveryNth(size, 5, Parts(rank, ranks)) for rank in range(ranks)]
    assert len({len(list(share)) for share in shares} | {len(share) for share in shares}) == 1
    counted = {
        share.number(k): batch
        for share in shares
        for k, batch in enumerate(share)
        if share.number(k) is not None
    }
    assert [i for number in sorted(counted) for i in counted[number]] == list(range(size))


def test_steps_of_another_size_do_not_go_on(splits: Splits) -> None:
    data = FlowDataModule(splits, batch_size=4)
    with pytest.raises(DataError, match="a step took 8 samples and would take 4 now"):
        data.load_state_dict({"epoch": 1, "read": 0, "whole": 8})
    data.load_state_dict({"epoch": 1, "read": 8, "whole": 4})
    assert len(list(data.train_batches())) == 0


@pytest.mark.parametrize("dataset", ["digits", "moons", "fake"])
def test_there_may_be_no_validation(dataset: str) -> None:
    splits = load_data(dataset, validation_size=0)
    assert len(splits.validation) == 0
    assert list(FlowDataModule(splits, batch_size=8).val_dataloader()) == []


def test_mirroring_twice_is_no_change(splits: Splits) -> None:
    mirror = Mirrored(splits.train)
    assert torch.equal(mirror[COUNT + 3].flip(-1), splits.train[3])


class Recorder(pl.LightningModule):
    """Trains nothing worth having and remembers which batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor] = []

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        self.seen.append(batch)
        return self.weight * batch.float().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trained(
    splits: Splits, epochs: int, *, folder: Path, resume: Path | None = None
) -> tuple[list[Tensor], pl.Trainer]:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    data = FlowDataModule(splits, batch_size=4, flips=True, seed=3)
    trainer.fit(recorder, datamodule=data, ckpt_path=resume)
    return recorder.seen, trainer


@pytest.mark.usefixtures("quiet")
def test_training_that_resumes_sees_what_it_would_have_seen(splits: Splits, tmp_path: Path) -> None:
    whole, _ = trained(splits, 3, folder=tmp_path)
    first, trainer = trained(splits, 1, folder=tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    rest, _ = trained(splits, 3, folder=tmp_path, resume=tmp_path / "last.ckpt")
    assert len(whole) == 6
    assert torch.equal(torch.stack(whole), torch.stack(first + rest))
    assert identities(whole[:2]) != identities(whole[2:4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0 is no batch"),
        ({"batch_size": 1, "eval_batch_size": -1}, "eval_batch_size = -1 is no batch"),
        ({"batch_size": 1, "workers": -1}, "workers = -1 cannot be"),
        ({"batch_size": 1, "flips": True}, r"has the shape \(2,\): leave flips out"),
    ],
)
def test_what_cannot_be_loaded_is_refused(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FlowDataModule(load_data("moons", train_size=4), **options)
