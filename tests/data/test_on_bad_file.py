"""Pictures that cannot be read: refused, or few of them left out, counted and named."""

from pathlib import Path

import pytest
import torch

from rnode_dyn.data import DATA_SETS, DataError, DataWarning, FlowDataModule, load_data
from tests.data.files import write_pictures

WITH_PICTURES = {"folder", "celeba", "celebahq", "imagenet64"}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """1,100 pictures to train on, 100 to validate and 100 to test."""
    for part, count in {"train": 1100, "validation": 100, "test": 100}.items():
        write_pictures(tmp_path / part, count)
    return tmp_path


def spoil(root: Path, count: int, part: str = "train") -> list[Path]:
    paths = sorted((root / part).rglob("*.png"))[:count]
    for path in paths:
        path.write_bytes(b"")
    return paths


def test_the_first_bad_one_is_refused_unless_asked_otherwise(many: Path) -> None:
    (bad,) = spoil(many, 1)
    with pytest.raises(DataError, match=f"{bad} is not a picture that can be read"):
        load_data("folder", root=many)


def test_few_are_left_out_counted_and_ten_of_them_named(many: Path) -> None:
    sound = load_data("folder", root=many)
    bad = spoil(many, 12)
    with pytest.warns(DataWarning) as said:
        splits = load_data("folder", root=many, on_bad_file="skip")
    text = str(said[0].message)
    assert text.startswith("12 of 1,300 picture files of folder in ")
    assert "the first 10:" in text
    assert [str(path) in text for path in bad] == [True] * 10 + [False] * 2
    assert len(splits.train) == 1088
    assert torch.equal(splits.test[:], sound.test[:])


def test_more_than_one_in_a_hundred_are_refused_by_name(many: Path) -> None:
    spoil(many, 7), spoil(many, 7, "test")
    with pytest.raises(DataError, match=r"14 of 1,300 .*more than one in a hundred.*the first 10"):
        load_data("folder", root=many, on_bad_file="skip")
    for path in (many / "test").rglob("*.png"):
        if not path.stat().st_size:
            path.unlink()
    with pytest.warns(DataWarning, match="7 of 1,293"):
        load_data("folder", root=many, on_bad_file="skip")


def test_what_is_sound_is_loaded_as_ever(many: Path, recwarn: pytest.WarningsRecorder) -> None:
    refusing, skipping = (load_data("folder", root=many, on_bad_file=o) for o in ("refuse", "skip"))
    assert torch.equal(refusing.train[:], skipping.train[:])
    assert not recwarn.list


@pytest.mark.parametrize("name", sorted(set(DATA_SETS) - WITH_PICTURES))
def test_it_is_refused_where_it_has_no_effect(name: str) -> None:
    with pytest.raises(DataError, match=f"on_bad_file = skip has no effect on {name}, for "):
        load_data(name, root="nowhere", on_bad_file="skip")


def test_batches_of_arrays_have_no_bad_pictures(roots: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="on_bad_file"):
        load_data("imagenet64", root=roots["imagenet64"], on_bad_file="skip")


@pytest.mark.parametrize("name", sorted(WITH_PICTURES - {"imagenet64"}))
def test_it_goes_with_every_set_of_pictures(name: str, roots: dict[str, Path]) -> None:
    splits = load_data(name, root=roots[name], on_bad_file="skip")
    assert torch.equal(splits.test[:], load_data(name, root=roots[name]).test[:])


def test_another_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="on_bad_file = 'ignore' says nothing: write 'refuse' or"):
        load_data("folder", root=tmp_path, on_bad_file="ignore")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_gone_bad_in_training_is_named(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnode_dyn.data.pictures.IN_MEMORY_BYTES", 0)
    for part in ("train", "validation", "test"):
        write_pictures(tmp_path / part, 4)
    splits = load_data("folder", root=tmp_path)
    (bad, *_) = spoil(tmp_path, 4)
    data = FlowDataModule(splits, batch_size=2, workers=workers)
    with pytest.raises(DataError, match=f"^{tmp_path}.* is not a picture that can be read"):
        list(data.train_dataloader())
    assert bad.exists()
