"""The published data sets, on small files laid out as the real ones are."""

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rnode_dyn.data import (
    DataError,
    MappedSplit,
    MissingDataError,
    PictureSplit,
    TensorSplit,
    describe_data,
    imagenet64,
    load_data,
    pictures,
)
from tests.data.files import (
    write_celeba,
    write_cifar10,
    write_imagenet64,
    write_mnist,
    write_pictures,
    write_svhn,
)

Write = Callable[[Path], None]

WRITERS: dict[str, Write] = {
    "mnist": write_mnist,
    "cifar10": write_cifar10,
    "svhn": write_svhn,
    "celeba": write_celeba,
    "celebahq": lambda root: write_pictures(root, 50),
    "imagenet64": write_imagenet64,
}
SHAPES = {
    "cifar10": (3, 32, 32),
    "svhn": (3, 32, 32),
    "celeba": (3, 148, 148),
    "celebahq": (3, 256, 256),
    "imagenet64": (3, 64, 64),
}
STEPS = {
    "cifar10": ["torchvision.datasets.CIFAR10(", "download=True", "cifar-10-python.tar.gz"],
    "svhn": ["'train', download=True", "'test', download=True", "test_32x32.mat"],
    "celeba": ["CelebA(", "gdown", "img_align_celeba.zip", "list_eval_partition.txt", "mmlab"],
    "celebahq": ["CelebAMask-HQ.zip", "https://github.com/", "train and test"],
    "imagenet64": ["image-net.org", "Imagenet64_val_npz.zip", "train_64x64.tar", "oord2016"],
}


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_what_a_sample_looks_like_is_known_without_files(name: str, shape: tuple) -> None:
    assert describe_data(name, root="nowhere").shape == shape
    assert describe_data(name, root="nowhere", image_size=16, levels=32).shape == (3, 16, 16)


@pytest.mark.parametrize(("name", "says"), STEPS.items())
def test_missing_data_says_how_to_get_it(name: str, says: list[str], tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        load_data(name, root=tmp_path / "none")
    for fragment in [*says, str(tmp_path / "none"), "set root", name]:
        assert fragment.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("cifar10", "cifar-10-batches-py/test_batch"),
        ("svhn", "test_32x32.mat"),
        ("celeba", "celeba/list_eval_partition.txt"),
        ("imagenet64", "train_data_batch_7.npz"),
        ("imagenet64", "val_data.npz"),
    ],
)
def test_incomplete_data_names_what_is_missing(name: str, file: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(MissingDataError, match=rf"{name} is not complete .*{re.escape(file)}"):
        load_data(name, root=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("svhn", "train_32x32.mat"),
        ("celeba", "celeba/list_eval_partition.txt"),
        ("celeba", "celeba/img_align_celeba/000001.jpg"),
        ("imagenet64", "train_data_batch_7.npz"),
        ("imagenet64", "val_data.npz"),
    ],
)
def test_damaged_data_is_refused(name: str, file: str, damage: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    path = tmp_path / file
    whole = path.read_bytes()
    cut = whole[: len(whole) // 2 - 3]
    path.write_bytes({"cut": cut, "empty": b"", "other": b"x" * 999}[damage])
    with pytest.raises(DataError, match=rf"{re.escape(path.name)}|{name}"):
        load_data(name, root=tmp_path, test_size=5)
    assert not list(tmp_path.glob("*.npy.*"))  # nothing half unpacked


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_another_number_of_images_is_told(name: str, tmp_path: Path) -> None:
    {"cifar10": write_cifar10, "svhn": write_svhn}[name](tmp_path, train=40)
    with pytest.raises(DataError, match=rf"{name} has 40 images in .* where 45 are expected"):
        load_data(name, root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "svhn", "imagenet64"])
def test_the_end_of_the_training_set_validates(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    splits = load_data(name, root=tmp_path)
    sizes = {"imagenet64": (45, 5, 10)}.get(name, (40, 5, 10))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes


def test_cifar10_is_read_channel_by_channel(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    stored = pickle.loads((tmp_path / "cifar-10-batches-py/data_batch_5").read_bytes())["data"]
    last = load_data("cifar10", root=tmp_path).validation[4]
    assert torch.equal(last.flatten(), torch.from_numpy(stored[-1]))


def test_celeba_is_cut_to_its_middle(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    face = load_data("celeba", root=tmp_path, image_size=37).train[0].float()
    # The writer drew the middle 148 × 148 pixels bright, its first four rows white.
    assert face.min() > 110
    assert face[:, 0].min() > 230
    assert face[:, 1:].std(dim=(1, 2)).max() < 15


def test_celeba_follows_the_partition(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    path = tmp_path / "celeba/list_eval_partition.txt"
    path.write_text("000003.jpg 2\n000001.jpg 0\n000002.jpg 1\n000004.jpg 0\n")
    splits = load_data("celeba", root=tmp_path, image_size=8)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (2, 1, 1)


def test_celeba_misses_no_picture_silently(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    (tmp_path / "celeba/img_align_celeba/000007.jpg").unlink()
    with pytest.raises(DataError, match=r"lists 50 pictures and 1 of .* such as 000007\.jpg"):
        load_data("celeba", root=tmp_path)


def test_celeba_in_another_size_is_refused(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "celeba/img_align_celeba/000001.jpg")
    with pytest.raises(DataError, match=r"000001\.jpg is 64×64 pixels, and 148×148 are cut"):
        load_data("celeba", root=tmp_path)


def test_many_faces_are_decoded_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_celeba(tmp_path)
    kept = load_data("celeba", root=tmp_path, image_size=16, levels=32)
    monkeypatch.setattr(pictures, "IN_MEMORY_BYTES", 0)
    lazy = load_data("celeba", root=tmp_path, image_size=16, levels=32)
    assert isinstance(kept.train, TensorSplit)
    assert isinstance(lazy.train, PictureSplit)
    assert torch.equal(kept.train.head(99), lazy.train.head(99))


def test_celebahq_is_split_by_name(tmp_path: Path) -> None:
    for i in range(30):
        Image.new("L", (4, 4), i).save(tmp_path / f"{i:05}.png")
    splits = load_data("celebahq", root=tmp_path, image_size=4)
    numbers = [
        [int(image.max()) for image in split.head(99)]
        for split in (splits.train, splits.validation, splits.test)
    ]
    assert numbers == [list(range(25)), [25, 26], [27, 28, 29]]


def test_celebahq_takes_folders_that_are_split(tmp_path: Path) -> None:
    for part, count in {"train": 6, "validation": 3, "test": 2}.items():
        write_pictures(tmp_path / part, count)
    splits = load_data("celebahq", root=tmp_path)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 3, 2)
    assert splits.event_shape == (3, 256, 256)


class TestImageNet64:
    def test_batches_are_unpacked_once_and_mapped(self, tmp_path: Path) -> None:
        write_imagenet64(tmp_path)
        splits = load_data("imagenet64", root=tmp_path)
        assert isinstance(splits.train, MappedSplit)
        numbers = [int(image[0, 0, 0]) for image in splits.train.head(99)]
        assert numbers == list(range(45))
        assert [int(image[0, 0, 0]) for image in splits.validation.head(9)] == [*range(45, 50)]
        with np.load(tmp_path / "val_data.npz") as batch:
            expected = torch.from_numpy(batch["data"])
        assert torch.equal(splits.test.head(99).flatten(1), expected)
        for batch in tmp_path.glob("*.npz"):
            batch.unlink()
        again = load_data("imagenet64", root=tmp_path)
        assert torch.equal(again.train.head(99), splits.train.head(99))

    def test_a_pickled_split_does_not_carry_its_file(self, tmp_path: Path) -> None:
        write_imagenet64(tmp_path)
        train = load_data("imagenet64", root=tmp_path).train
        first = train[3]
        sent = pickle.dumps(train)
        assert len(sent) < 10_000
        assert torch.equal(pickle.loads(sent)[3], first)

    def test_mapped_images_are_resized_and_quantized(self, tmp_path: Path) -> None:
        write_imagenet64(tmp_path)
        plain = load_data("imagenet64", root=tmp_path).test.head(9)
        small = load_data("imagenet64", root=tmp_path, image_size=32, levels=32).test.head(9)
        assert small.shape == (9, 3, 32, 32)
        assert int(small.max()) < 32
        coarse = load_data("imagenet64", root=tmp_path, levels=32).test.head(9)
        assert torch.equal(coarse, plain // 8)

    @pytest.mark.parametrize(
        "folders", [("train", "val"), ("train_64x64", "valid_64x64"), ("train", "test")]
    )
    def test_folders_of_both_names_are_read(self, folders: tuple[str, str], tmp_path: Path) -> None:
        write_pictures(tmp_path / folders[0], 20, size=(64, 64))
        write_pictures(tmp_path / folders[1], 7, size=(64, 64))
        splits = load_data("imagenet64", root=tmp_path)
        assert (len(splits.train), len(splits.validation), len(splits.test)) == (15, 5, 7)

    def test_so_few_pictures_are_no_imagenet(self, tmp_path: Path) -> None:
        for part in ("train", "val"):
            write_pictures(tmp_path / part, 5, size=(64, 64))
        with pytest.raises(DataError, match='has 5: write dataset = "folder" for so few'):
            load_data("imagenet64", root=tmp_path)

    def test_an_unknown_variant_is_refused_at_once(self) -> None:
        with pytest.raises(DataError, match=r"variant = 'box' is none .* oord2016 or chrab"):
            describe_data("imagenet64", root="nowhere", variant="box")

    def test_the_variant_is_told_by_the_numbers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_imagenet64(tmp_path)
        sizes = {"oord2016": (49, 9), "chrabaszcz2017": (50, 10)}
        monkeypatch.setattr(imagenet64, "VARIANTS", sizes)
        assert len(load_data("imagenet64", root=tmp_path, variant="chrabaszcz2017").test) == 10
        found = r"found 50 training and 10 test .* 'oord2016' has 49 training and 9 test"
        mend = ".*write variant = 'chrabaszcz2017'"
        with pytest.raises(DataError, match=found + mend):
            load_data("imagenet64", root=tmp_path, variant="oord2016")

    def test_numbers_of_no_variant_are_told(self, tmp_path: Path) -> None:
        write_imagenet64(tmp_path)
        with pytest.raises(DataError, match=r"has 1,281,149 .* 49,999 .*: complete the files"):
            load_data("imagenet64", root=tmp_path, variant="oord2016")

    def test_batches_of_another_size_are_refused(self, tmp_path: Path) -> None:
        write_imagenet64(tmp_path)
        np.savez(tmp_path / "train_data_batch_2.npz", data=np.zeros((5, 3072), np.uint8))
        with pytest.raises(DataError, match=r"batch_2.* is no batch of ImageNet64.*\(5, 3072\)"):
            load_data("imagenet64", root=tmp_path)

    def test_a_damaged_unpacked_file_is_named(self, tmp_path: Path) -> None:
        write_imagenet64(tmp_path)
        load_data("imagenet64", root=tmp_path)
        (tmp_path / "val_64x64.npy").write_bytes(b"")
        with pytest.raises(DataError, match=r"val_64x64\.npy cannot be read .*: remove it"):
            load_data("imagenet64", root=tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_fewer_images_than_stated_are_told(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    message = rf"test_size = 60000 is more than the \d+ samples that {name} has"
    with pytest.raises(DataError, match=message):
        load_data(name, root=tmp_path, test_size=60_000)
    shutil.rmtree(tmp_path)
