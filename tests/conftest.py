"""Settings for all tests."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

# First of all: its guard lets Lightning import torchvision beside a CPU-only torch.
import rnode_dyn  # noqa: F401

if TYPE_CHECKING:
    from rnode_dyn import RunResult

# Tests run side by side, on small tensors: threads within each would only be in the way.
torch.set_num_threads(1)

# The same examples every time, so that a run says of a change and not of its luck. Others are
# looked for by HYPOTHESIS_PROFILE=search.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a product that says ``one_in(n)`` keep diagonals, in which all pairs of values meet."""
    for item in items:
        marker = item.get_closest_marker("one_in")
        callspec = getattr(item, "callspec", None)
        if marker and callspec and sum(callspec.indices.values()) % marker.args[0]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """Every test starts from the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def copied(finished: "RunResult", tmp_path: Path) -> Path:
    """A copy of the finished run, to be written in."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> "RunResult":
    """A finished run, to be read."""
    from rnode_dyn import run
    from tests.tiny import tiny

    return run(tiny(), tmp_path_factory.mktemp("runs") / "tiny")
