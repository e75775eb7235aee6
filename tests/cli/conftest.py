"""What tests of the command begin with."""

from pathlib import Path

import pytest

from tests.cli.calling import GOOD


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return path
