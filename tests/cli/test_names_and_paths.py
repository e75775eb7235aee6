"""A name writes nowhere but under runs, `~` is the home folder, and warnings are said as such."""

from pathlib import Path

import numpy as np
import pytest

from rnode_dyn import load_recipe, load_run, run
from tests.cli.calling import call, words_of
from tests.data.files import write_pictures

RECIPE = """
name = "small"
[data]
dataset = "npy"
root = "~/table"
standardize = true
[model.field]
kind = "mlp"
hidden = [4]
[train]
max_steps = 1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a table and a recipe; commands run in a folder elsewhere."""
    home, here = tmp_path / "home", tmp_path / "deep" / "in"
    (home / "table").mkdir(parents=True)
    here.mkdir(parents=True)
    np.save(home / "table" / "data.npy", np.random.default_rng(0).standard_normal((100, 3)))
    (home / "small.toml").write_text(RECIPE)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "a/b", "..", "~", "-x"])
@pytest.mark.parametrize("output", [(), ("--output", "out")])
def test_a_name_that_is_a_path_is_refused_and_nothing_written(
    name: str, output: tuple[str, ...], home: Path
) -> None:
    before = sorted(home.parent.rglob("*"))
    result = call("run", home / "small.toml", "--set", f"name={name}", *output)
    assert result.exit_code == 2
    assert "name: " in words_of(result.stderr)
    assert sorted(home.parent.rglob("*")) == before


def test_a_tilde_is_the_home_folder_wherever_a_path_is_taken(home: Path) -> None:
    assert call("run", "~/small.toml", "--output", "~/run").exit_code == 0
    assert call("run", "--resume", "~/run").exit_code == 0
    assert call("evaluate", "~/run").exit_code == 0
    assert call("sample", "~/run", "--output", "~/drawn.npy").exit_code == 0
    assert call("report", "~/run", "--output", "~/curves").exit_code == 0
    assert np.load(home / "drawn.npy").shape == (64, 3)
    assert (home / "curves" / "curves.png").is_file()
    assert load_run("~/run").folder.path == home / "run"
    assert run(load_recipe("~/small.toml"), "~/again").folder == home / "again"
    assert not list(Path().iterdir())


def test_a_constant_column_is_said_on_the_error_stream(home: Path) -> None:
    rows = np.load(home / "table" / "data.npy")
    rows[:, 2] = 0.1
    np.save(home / "table" / "data.npy", rows)
    result = call("run", "~/small.toml", "--output", "run", "--json")
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "same value in every training row of column 2" in words_of(result.stderr)
    assert "warning" not in result.stdout
    assert (np.load(home / "table" / "data.npy")[:, 2] == 0.1).all()


def test_bad_pictures_are_left_out_where_the_recipe_says_so(home: Path) -> None:
    for part, count in {"train": 200, "validation": 20, "test": 20}.items():
        write_pictures(home / "pictures" / part, count)
    bad = home / "pictures" / "train" / "class0" / "0000.png"
    bad.write_bytes(b"")
    wanted = [
        *("--set", "data.dataset=folder", "--set", "data.root=~/pictures"),
        *("--set", "data.image_size=4", "--output", "run"),
    ]
    refused = call("run", "~/small.toml", *wanted)
    assert (refused.exit_code, str(bad) in refused.stderr) == (2, True)
    assert not Path("run").exists()
    skipped = call("run", "~/small.toml", *wanted, "--set", "data.on_bad_file=skip")
    assert skipped.exit_code == 0
    assert "1 of 240 picture files" in words_of(skipped.stderr)
    nowhere = call("run", "moons", "--set", "data.on_bad_file=skip")
    assert nowhere.exit_code == 2
    assert "moons reads no picture files one by one: drop it" in words_of(nowhere.stderr)
