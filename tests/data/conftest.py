"""Data sets on disk, made small here, and the real ones where RNODE_DYN_DATA names their folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnode_dyn.data import Splits, load_data
from rnode_dyn.data.synthetic import DRAWS

from .files import write_mnist, write_pictures, write_vectors

Load = Callable[..., Splits]


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of every data set that reads files."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("mnist", "npy", "folder")}
    write_mnist(folders["mnist"])
    write_vectors(folders["npy"])
    write_pictures(folders["folder"] / "train", 40)
    write_pictures(folders["folder"] / "test", 20)
    return folders


@pytest.fixture(params=["digits", *DRAWS, "mnist", "npy", "folder", "fake"])
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
