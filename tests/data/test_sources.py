"""What is particular to one data set, and how each says that its files will not do."""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from rnode_dyn.data import (
    DataError,
    MissingDataError,
    TensorSplit,
    describe_data,
    load_data,
    pictures,
)
from rnode_dyn.data.mnist import FILES
from rnode_dyn.data.splits import Split
from tests.data.files import write_mnist, write_pictures, write_vectors


def test_digits_are_scikit_learns() -> None:
    splits = load_data("digits")
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [1297, 200, 300]
    ours = torch.cat([part.head(len(part)) for part in parts]).flatten(1).double()
    theirs = torch.from_numpy(np.asarray(load_digits(return_X_y=True)[0]))
    assert torch.equal(ours.unique(dim=0), theirs.unique(dim=0))


def test_smaller_subsets_lie_in_larger_ones() -> None:
    small, large = (
        {tuple(row.flatten().tolist()) for row in load_data("digits", train_size=n).train.head(n)}
        for n in (50, 100)
    )
    assert len(small) == 50
    assert small < large


@pytest.mark.parametrize("name", ["moons", "pinwheel", "8gaussians", "spirals", "rings"])
def test_densities_of_the_plane_have_the_usual_scale(name: str) -> None:
    points = load_data(name).train.head(10_000)
    assert points.abs().max() < 6
    assert 1 < points.std() < 2.5


def test_checkerboard_fills_the_dark_squares_only() -> None:
    points = load_data("checkerboard").train.head(10_000)
    squares = ((points + 4) / 2).floor().long()
    assert squares.min() == 0
    assert squares.max() == 3
    assert (squares.sum(dim=1) % 2 == 0).all()
    filled = torch.bincount(4 * squares[:, 0] + squares[:, 1], minlength=16)
    assert ((filled == 0) | (filled > 1000)).all()


def test_rings_are_four() -> None:
    radius = load_data("rings").train.head(10_000).norm(dim=1)
    nearest = (radius / 0.75).round().clamp(1, 4)
    assert set(nearest.tolist()) == {1, 2, 3, 4}
    assert (radius - 0.75 * nearest).abs().mean() < 0.1


def test_mnist_validates_on_the_end_of_the_training_set(roots: dict[str, Path]) -> None:
    splits = load_data("mnist", root=roots["mnist"])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (55_000, 5_000, 10_000)
    raw = (roots["mnist"] / "MNIST/raw/train-images-idx3-ubyte").read_bytes()
    last = torch.frombuffer(bytearray(raw[-784:]), dtype=torch.uint8)
    assert torch.equal(splits.validation[4_999].flatten(), last)


def test_missing_mnist_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        load_data("mnist", root=tmp_path)
    message = str(caught.value)
    assert "torchvision.datasets.MNIST" in message
    assert "download=True" in message
    assert str(tmp_path / "MNIST" / "raw") in message
    assert all(file in message for file in FILES)


def test_incomplete_mnist_names_the_missing_file(tmp_path: Path) -> None:
    write_mnist(tmp_path, (3, 2))
    (tmp_path / "MNIST/raw" / FILES[3]).unlink()
    with pytest.raises(MissingDataError, match=f": MNIST/raw/{FILES[3]} not found there"):
        load_data("mnist", root=tmp_path)


@pytest.mark.parametrize("damage", ["few", "cut", "empty", "other"])
def test_damaged_mnist_is_refused(tmp_path: Path, damage: str) -> None:
    write_mnist(tmp_path, (3, 2))
    path = tmp_path / "MNIST/raw" / FILES[0]
    whole = path.read_bytes()
    path.write_bytes({"few": whole, "cut": whole[:-5], "empty": b"", "other": b"x" * 999}[damage])
    with pytest.raises(DataError, match=r"mnist's .*: remove .* and get the data anew"):
        load_data("mnist", root=tmp_path)


def test_vectors_are_the_files_rows(tmp_path: Path) -> None:
    write_vectors(tmp_path)
    splits = load_data("npy", root=tmp_path)
    assert splits.event_shape == (3,)
    assert splits.levels is None
    expected = torch.from_numpy(np.load(tmp_path / "val.npy")).float()
    assert torch.equal(splits.validation.head(10), expected)


@pytest.mark.parametrize("file", ["train", "val", "test"])
def test_missing_vectors_are_named(tmp_path: Path, file: str) -> None:
    write_vectors(tmp_path)
    (tmp_path / f"{file}.npy").unlink()
    with pytest.raises(MissingDataError, match=rf"finds no .*{file}\.npy in .*numpy\.save"):
        load_data("npy", root=tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"has the shape \(5,\): save an array of shape \(rows, columns\)"),
        (np.zeros((0, 3)), r"has the shape \(0, 3\)"),
        (np.zeros((5, 3), dtype=np.int64), "holds int64: save floats, .* add uniform noise"),
        (np.zeros((5, 3), dtype=bool), "holds bool: save floats"),
        (np.zeros((5, 4)), "has 4 columns and train.npy has 3"),
        (np.full((5, 3), np.nan), "has 5 rows with values that are not finite"),
        (np.full((5, 3), 1e300), "has 5 rows with values that are not finite float32 numbers"),
        (np.array([[object()]]), "cannot be read as an array"),
    ],
    ids=["vector", "empty", "integers", "booleans", "columns", "nan", "overflow", "objects"],
)
def test_unfit_vectors_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    write_vectors(tmp_path)
    np.save(tmp_path / "test.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        load_data("npy", root=tmp_path)


@pytest.mark.parametrize("kind", [">f8", "<f4", "f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_every_kind_are_read(tmp_path: Path, kind: str, order: Literal["C", "F"]) -> None:
    write_vectors(tmp_path)
    array = np.arange(12).reshape(4, 3).astype(kind, order=order)
    np.save(tmp_path / "test.npy", array)
    assert torch.equal(
        load_data("npy", root=tmp_path).test.head(9), torch.arange(12.0).reshape(4, 3)
    )


def test_one_file_is_split_as_maf_splits_it(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(1234, 6))
    np.save(tmp_path / "data.npy", rows)
    splits = load_data("npy", root=tmp_path)
    test = rows[-int(0.1 * len(rows)) :]
    rest = rows[: -int(0.1 * len(rows))]
    validation, train = rest[-int(0.1 * len(rest)) :], rest[: -int(0.1 * len(rest))]
    for split, expected in [
        (splits.train, train),
        (splits.validation, validation),
        (splits.test, test),
    ]:
        assert torch.equal(split.head(9999), torch.from_numpy(expected).float())


def test_one_file_beside_three_is_refused(tmp_path: Path) -> None:
    write_vectors(tmp_path)
    np.save(tmp_path / "data.npy", np.zeros((20, 3)))
    with pytest.raises(DataError, match=r"both data\.npy and train\.npy.*: remove one"):
        load_data("npy", root=tmp_path)


def test_one_file_needs_rows_for_three_splits(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.zeros((9, 3)))
    with pytest.raises(DataError, match="has 9 rows, too few for three splits: save 20"):
        load_data("npy", root=tmp_path)
    np.save(tmp_path / "data.npy", np.arange(60.0).reshape(20, 3))
    splits = load_data("npy", root=tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (17, 1, 2)


def test_stated_columns_are_compared_and_need_no_file(tmp_path: Path) -> None:
    assert describe_data("npy", root=tmp_path, columns=6).shape == (6,)
    np.save(tmp_path / "data.npy", np.zeros((40, 8)))
    with pytest.raises(DataError, match=r"data\.npy has 8 columns and columns = 6: save"):
        load_data("npy", root=tmp_path, columns=6)


def test_a_text_file_is_no_array(tmp_path: Path) -> None:
    write_vectors(tmp_path)
    (tmp_path / "train.npy").write_text("1.0, 2.0")
    with pytest.raises(DataError, match="cannot be read as an array"):
        load_data("npy", root=tmp_path)


def test_a_tenth_of_the_pictures_validates_if_no_folder_does(roots: dict[str, Path]) -> None:
    splits = load_data("folder", root=roots["folder"])
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (36, 4, 20)


@pytest.mark.parametrize("name", ["validation", "val"])
def test_a_folder_of_validation_pictures_is_used(tmp_path: Path, name: str) -> None:
    for part, count in {"train": 6, name: 3, "test": 2}.items():
        write_pictures(tmp_path / part, count)
    splits = load_data("folder", root=tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 3, 2)


def test_pictures_are_decoded_to_what_they_show(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_pictures(tmp_path / part, 2)
    splits = load_data("folder", root=tmp_path)
    with Image.open(tmp_path / "test/class0/0000.png") as image:
        expected = torch.from_numpy(np.asarray(image).copy()).movedim(-1, 0)
    assert splits.event_shape == (3, 6, 8)
    assert any(torch.equal(picture, expected) for picture in splits.test.head(2))


def test_pictures_are_cut_in_the_middle(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for i in range(2):
            stripes = np.zeros((10, 30), dtype=np.uint8)
            stripes[:, 10:20] = 200  # the middle third
            Image.fromarray(stripes).save(tmp_path / part / f"{i}.png")
    middle = load_data("folder", root=tmp_path, image_size=5, channels=1).train[0]
    assert middle.shape == (1, 5, 5)
    assert (middle[..., 1:-1] == 200).all()  # the filter mixes the edges with what lies beyond
    assert (middle > 150).all()


def test_many_pictures_are_decoded_batch_by_batch_to_the_same(
    roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> list[Split]:
        splits = load_data("folder", root=roots["folder"], image_size=4, levels=32)
        return [splits.train, splits.validation, splits.test]

    at_once = load()
    monkeypatch.setattr(pictures, "IN_MEMORY_BYTES", 0)
    for kept, lazy in zip(at_once, load(), strict=True):
        assert isinstance(kept, TensorSplit)
        assert not isinstance(lazy, TensorSplit)
        assert torch.equal(kept.head(99), lazy.head(99))


def test_the_size_of_pictures_can_be_told_without_them() -> None:
    event = describe_data("folder", root="nowhere", image_size=64, levels=32)
    assert event.shape == (3, 64, 64)
    assert event.levels == 32


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_pictures_say_how_to_lay_them_out(tmp_path: Path, part: str) -> None:
    write_pictures(tmp_path / ("test" if part == "train" else "train"), 2)
    layout = re.escape(f"finds no pictures in {tmp_path / part}: lay them out as {tmp_path}/train")
    with pytest.raises(MissingDataError, match=layout):
        load_data("folder", root=tmp_path)


def test_pictures_of_several_sizes_need_an_image_size(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", 3)
    write_pictures(tmp_path / "test", 3, size=(5, 5))
    with pytest.raises(DataError, match="5×5 pixels and another picture 8×6: set image_size"):
        load_data("folder", root=tmp_path)
    assert load_data("folder", root=tmp_path, image_size=4).test.head(3).shape == (3, 3, 4, 4)


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_pictures_are_named(tmp_path: Path, damage: str) -> None:
    for part in ("train", "test"):
        write_pictures(tmp_path / part, 3)
    path = tmp_path / "test/class0/0000.png"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(DataError, match=re.escape(f"{path} is not a picture")):
        load_data("folder", root=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels = 2 cannot be decoded: write 1 .* or 3"),
        ({"validation_size": 40}, "cannot keep 40 of 40 training pictures for validation"),
        ({"test_size": 21}, "test_size = 21 is more than the 20 samples"),
    ],
)
def test_what_a_folder_cannot_give_is_refused(
    roots: dict[str, Path], options: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_data("folder", root=roots["folder"], **options)


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_pictures(tmp_path / part, 2)
    (tmp_path / "test" / "._0000.png").write_bytes(b"resource fork")
    assert len(load_data("folder", root=tmp_path).test) == 2
