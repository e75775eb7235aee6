"""Recipes on disk for the tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rnode_dyn.recipe import library

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file below an empty working directory and returns its relative path."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes, name: str = "my.toml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


@pytest.fixture
def packaged(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of packaged recipes that holds `quickstart` and `ablation/none`."""
    folder = tmp_path / "packaged"
    for name, title in (("quickstart", "Digits"), ("ablation/none", "No penalty")):
        text = f'name = "{name.replace("/", "-")}"\ntitle = "{title}"\n[data]\ndataset = "digits"\n'
        write(text, f"packaged/{name}.toml")
    monkeypatch.setattr(library, "_FOLDERS", (folder,))
    return folder
