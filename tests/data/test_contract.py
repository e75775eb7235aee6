"""What holds for every data set."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rnode_dyn.data import DATA_SETS, DataError, Splits, describe_data, load_data

Load = Callable[..., Splits]

# The others are drawn from the seed, to any size.
FIXED = {
    "digits", "mnist", "cifar10", "svhn", "celeba", "celebahq", "imagenet64", "npy", "folder"
}  # fmt: skip

PIXELS = [name for name, source in DATA_SETS.items() if "levels" not in source.refuses]

_OF_SOME = {
    "columns": 3,
    "variant": "a",
    "standardize": True,
    "checksums": {"a": "b"},
    "on_bad_file": "skip",
}


def rows(splits: Splits) -> list[Tensor]:
    parts = (splits.train, splits.validation, splits.test)
    return [part.head(len(part)).flatten(1) for part in parts]


def count_duplicates(samples: Tensor) -> int:
    return len(samples) - len(samples.unique(dim=0))


def test_all_data_sets_are_under_test(roots: dict[str, Path]) -> None:
    drawn = {"digits", "fake", "moons", "pinwheel", "checkerboard", "8gaussians", "spirals"}
    assert set(DATA_SETS) == {*drawn, "rings", *roots}


def test_samples_are_what_the_event_says(load: Load) -> None:
    splits = load(train_size=20)
    batch = splits.train.head(16)
    assert batch.shape == (16, *splits.event_shape)
    if splits.levels is None:
        assert batch.dtype == torch.float32
        assert batch.isfinite().all()
    else:
        assert batch.dtype == torch.uint8
        # Every data set here has some pixel in the upper half of its range.
        assert splits.levels // 2 <= int(batch.max()) < splits.levels


def test_slices_and_lists_take_samples(load: Load) -> None:
    split = load(train_size=12).train
    assert torch.equal(split[:200], split.head(12))
    assert torch.equal(split[-3:], torch.stack([split[9], split[10], split[-1]]))
    assert torch.equal(split[[5, 0]], torch.stack([split[5], split[0]]))
    assert split[3:3].shape == (0, *split[0].shape)
    with pytest.raises(IndexError, match="sample 12 is asked for, and there are 12"):
        split[12]


def test_description_agrees_with_what_is_loaded(
    name: str, load: Load, roots: dict[str, Path]
) -> None:
    assert describe_data(name, root=roots.get(name, "nowhere")) == load(train_size=20).event


def test_loading_twice_gives_the_same(load: Load) -> None:
    for first, second in zip(rows(load()), rows(load()), strict=True):
        assert torch.equal(first, second)


def test_splits_share_no_sample(load: Load) -> None:
    splits = load(train_size=30)
    assert count_duplicates(torch.cat(rows(splits))) == 0


def test_sizes_are_met(load: Load) -> None:
    splits = load(train_size=12, validation_size=3, test_size=5)
    assert [len(part) for part in rows(splits)] == [12, 3, 5]


def test_training_size_changes_no_other_split(load: Load) -> None:
    _, validation, test = rows(load())
    _, same_validation, same_test = rows(load(train_size=7))
    assert torch.equal(validation, same_validation)
    assert torch.equal(test, same_test)


def test_seed_changes_only_what_is_drawn(name: str, load: Load) -> None:
    train, other = (load(train_size=20, seed=seed).train.head(20) for seed in (0, 1))
    assert torch.equal(train, other) == (name in FIXED)


@pytest.mark.parametrize("option", ["image_size", "levels", "channels"])
def test_options_take_effect_or_are_refused(name: str, load: Load, option: str) -> None:
    given = {"image_size": 4, "levels": 5, "channels": 1}[option]
    if option in DATA_SETS[name].refuses:
        with pytest.raises(DataError, match=f"^{option} = {given} has no effect on {name}, "):
            load(**{option: given})
        return
    splits = load(train_size=20, **{option: given})
    height = splits.event_shape[1]
    got = {"image_size": height, "levels": splits.levels, "channels": splits.event_shape[0]}
    assert got[option] == given
    assert splits.train[0].shape == splits.event_shape
    if option == "levels":
        assert int(splits.train.head(20).max()) == given - 1


@pytest.mark.parametrize(
    ("name", "option"),
    [
        (name, option)
        for name, source in DATA_SETS.items()
        for option in _OF_SOME
        if option in source.refuses
    ],
    indirect=["name"],
)
def test_options_of_other_data_sets_are_refused(name: str, load: Load, option: str) -> None:
    with pytest.raises(DataError, match=f"^{option} = .* has no effect on {name}, for "):
        load(**{option: _OF_SOME[option]})


@pytest.mark.parametrize("name", PIXELS, indirect=True)
def test_more_levels_than_there_are_is_refused(load: Load) -> None:
    with pytest.raises(DataError, match=r"levels = 257 is more than the .*: write levels = "):
        load(levels=257)


@pytest.mark.parametrize(
    ("option", "given"),
    [("train_size", 0), ("test_size", -1), ("validation_size", -1), ("seed", -1)],
)
def test_impossible_sizes_are_refused(load: Load, option: str, given: int) -> None:
    with pytest.raises(DataError, match=f"{option} = {given} is too small"):
        load(**{option: given})


@pytest.mark.parametrize("name", sorted(FIXED), indirect=True)
def test_more_samples_than_there_are_is_refused(load: Load) -> None:
    with pytest.raises(DataError, match=r"train_size = 1000000 is more than the .* samples"):
        load(train_size=1_000_000)


@pytest.mark.parametrize(
    ("given", "hint"), [("mnits", "Did you mean mnist"), ("moon", "Did you mean moons"), ("?", "")]
)
def test_unknown_names_get_the_nearest_right_one(given: str, hint: str) -> None:
    with pytest.raises(DataError, match=r"There is no data set .*: write one of digits") as caught:
        load_data(given)
    assert ("Did you mean" in str(caught.value)) == bool(hint)
    assert hint in str(caught.value)
