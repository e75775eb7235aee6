"""Data sets on disk, made small here, and the real ones where RNODE_DYN_DATA names their folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnode_dyn.data import Splits, celeba, cifar10, imagenet64, load_data, svhn
from rnode_dyn.data.synthetic import DRAWS
from tests.data.files import (
    write_celeba,
    write_cifar10,
    write_imagenet64,
    write_mnist,
    write_pictures,
    write_svhn,
    write_vectors,
)

Load = Callable[..., Splits]

SMALL = {"train": 40, "validation": 5, "test": 10}


@pytest.fixture(scope="session")
def torchvision_checksums() -> dict[str, str]:
    """For file names the MD5 that torchvision's source states, as they were before any test."""
    return dict(_CHECKSUMS)


def _stated_by_torchvision() -> dict[str, str]:
    batches = [*cifar10.CIFAR10.train_list, *cifar10.CIFAR10.test_list]
    faces = {name: md5 for _, md5, name in celeba.CelebA.file_list}
    houses = {name: md5 for _, name, md5 in svhn.SVHN.split_list.values()}
    return {**dict(batches), **houses, **faces}


_CHECKSUMS = _stated_by_torchvision()


@pytest.fixture(autouse=True)
def _small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small files stand for the published ones, whose sizes and hashes are fixed."""
    CIFAR10, SVHN = cifar10.CIFAR10, svhn.SVHN
    for batches in ("train_list", "test_list"):
        names = [[name, None] for name, _ in getattr(CIFAR10, batches)]
        monkeypatch.setattr(CIFAR10, batches, names)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": None})
    files = {split: [url, name, None] for split, (url, name, _) in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", files)
    monkeypatch.setattr(cifar10, "SIZES", SMALL)
    monkeypatch.setattr(svhn, "SIZES", SMALL)
    monkeypatch.setattr(imagenet64, "VALIDATION", SMALL["validation"])


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of every data set that reads files."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ON_DISK}
    write_mnist(folders["mnist"])
    write_cifar10(folders["cifar10"])
    write_svhn(folders["svhn"])
    write_celeba(folders["celeba"])
    write_pictures(folders["celebahq"], 50, size=(64, 64))
    write_imagenet64(folders["imagenet64"])
    write_vectors(folders["npy"])
    write_pictures(folders["folder"] / "train", 40)
    write_pictures(folders["folder"] / "test", 20)
    write_pictures(folders["picture"], 1)
    return {**folders, "picture": folders["picture"] / "class0" / "0000.png"}


ON_DISK = (
    "mnist",
    "cifar10",
    "svhn",
    "celeba",
    "celebahq",
    "imagenet64",
    "npy",
    "folder",
    "picture",
)


@pytest.fixture(params=["digits", *DRAWS, *ON_DISK, "fake"])
def name(request: pytest.FixtureRequest) -> str:
    """Every data set in turn."""
    return request.param


@pytest.fixture
def load(name: str, roots: dict[str, Path]) -> Load:
    """`load_data` for the data set in turn."""

    def load(**options: object) -> Splits:
        return load_data(name, root=roots.get(name, Path("nowhere")), **options)  # type: ignore[arg-type]

    return load


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with MNIST/raw and photos32/{train,test}."""
    folder = os.environ.get("RNODE_DYN_DATA")
    if not folder:
        pytest.skip("RNODE_DYN_DATA does not name a folder with MNIST/raw and photos32")
    return Path(folder)
