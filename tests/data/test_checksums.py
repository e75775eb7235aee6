"""Files are compared with the checksums that a recipe states for them."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from rnode_dyn.data import DataError, MissingDataError, load_data
from rnode_dyn.data.checksums import digest_of_images, verify
from rnode_dyn.recipe import load_recipe
from tests.data.files import write_cifar10, write_vectors


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_the_right_bytes_pass_and_others_do_not(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.b").write_bytes(b"bytes")
    right = hashlib.new(kind, b"bytes").hexdigest()
    verify(tmp_path, {"a.b": f"{kind}:{right}"})
    verify(tmp_path, {"a.b": f"{kind}:{right.upper()}"})
    wrong = hashlib.new(kind, b"others").hexdigest()
    with pytest.raises(DataError) as caught:
        verify(tmp_path, {"a.b": f"{kind}:{wrong}"})
    assert f"found {kind}:{right}, expected {kind}:{wrong}" in str(caught.value)
    assert str(tmp_path / "a.b") in str(caught.value)


def test_a_stated_file_that_is_missing_stops(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"a\.b is not there, .*: expected md5:0{32}\."):
        verify(tmp_path, {"a.b": "md5:" + "0" * 32})


@pytest.mark.parametrize(
    "stated", ["", "md5", "md5:", "md5:12", "crc:1234", "sha256:" + "0" * 32, "md5:" + "g" * 32]
)
def test_what_is_no_checksum_is_refused(stated: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: write md5: and 32, or sha256: or images"):
        verify(tmp_path, {"a.b": stated})


def write_idx(path: Path, images: np.ndarray) -> Path:
    path.write_bytes(struct.pack(">4I", 0x803, *images.shape) + images.tobytes())
    return path


def test_images_are_the_same_in_any_order(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    other = images.copy()
    other[7, 3, 3] ^= 1
    digests = [
        digest_of_images(write_idx(tmp_path / "images", array))
        for array in (images, random.permutation(images), other)
    ]
    assert digests[0] == digests[1] != digests[2]
    by_hand = sorted(hashlib.sha256(image.tobytes()).digest() for image in images)
    assert digests[0] == hashlib.sha256(b"".join(by_hand)).hexdigest()


@pytest.mark.parametrize("content", [b"", b"hello world", struct.pack(">4I", 0x803, 3, 2, 2)])
def test_what_is_no_file_of_images_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content + b"12345" if content[:2] == b"\0\0" else content)
    with pytest.raises(DataError, match=r"is no idx file|does not hold the 3 samples"):
        digest_of_images(path)


def test_checksums_are_looked_at_before_the_data_is_read(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    recipe = load_recipe("cifar10")
    with pytest.raises(DataError, match=r"data_batch_1 is another file .*: found md5:.* expected"):
        load_data("cifar10", root=tmp_path, checksums=recipe.data.checksums)
    with pytest.raises(MissingDataError, match=r"torchvision\.datasets\.CIFAR10"):
        load_data("cifar10", root=tmp_path / "none", checksums=recipe.data.checksums)


def test_vectors_have_checksums_too(tmp_path: Path) -> None:
    write_vectors(tmp_path)
    right = hashlib.md5((tmp_path / "val.npy").read_bytes()).hexdigest()
    load_data("npy", root=tmp_path, checksums={"val.npy": f"md5:{right}"})
    with pytest.raises(DataError, match=r"val\.npy is another file"):
        load_data("npy", root=tmp_path, checksums={"val.npy": "md5:" + "0" * 32})


def test_the_recipe_knows_the_real_mnist(real_data: Path) -> None:
    verify(real_data, load_recipe("mnist").data.checksums)


def test_recipes_state_torchvisions_checksums(torchvision_checksums: dict[str, str]) -> None:
    stated = {
        Path(file).name: value.removeprefix("md5:")
        for name in ("cifar10", "svhn", "celeba64")
        for file, value in load_recipe(name).data.checksums.items()
    }
    assert stated.items() <= torchvision_checksums.items()
    assert len(stated) == 9
