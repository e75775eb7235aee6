"""`sample`: pictures and arrays of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rnode_dyn import RunResult
from tests.cli.calling import call, words_of


def test_more_samples_than_there_are_is_refused(finished: RunResult) -> None:
    result = call("evaluate", finished.folder, "--limit", 61)
    assert (result.exit_code, "the test split has 60" in words_of(result.stderr)) == (
        2,
        True,
    )


def test_sample_draws_a_picture_of_so_many(finished: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "new" / "grid.png"
    printed = json.loads(
        call("sample", finished.folder, "-n", 9, "--temperature", 0.5, "--output", path, "--json")
        .stdout
    )  # fmt: skip
    assert printed == {"file": str(path), "count": 9, "temperatures": [0.5], "seed": 0}
    assert path.read_bytes().startswith(b"\x89PNG")


def test_samples_at_several_temperatures_are_panels_of_one_picture(
    finished: RunResult, tmp_path: Path
) -> None:
    widths = []
    for temperatures in ([0.5], [0.5, 1.0], []):
        options = [part for t in temperatures for part in ("--temperature", t)]
        path = tmp_path / "grid.png"
        call("sample", finished.folder, "-n", 4, *options, "--output", path)
        widths.append(Image.open(path).width)
    # Beside the data one panel, two, or those of the recipe's own four temperatures.
    panel = widths[1] - widths[0]
    assert widths == [widths[0], widths[0] + panel, widths[0] + 3 * panel]


def test_without_the_data_there_are_samples_all_the_same(
    finished: RunResult, copied: Path, tmp_path: Path
) -> None:
    run_path = tmp_path / "run"
    shutil.copytree(finished.folder, run_path)
    recipe = (run_path / "recipe.toml").read_text()
    changes = 'dataset = "mnist"\nimage_size = 8\nlevels = 17\nroot = "gone"'
    recipe = recipe.replace('dataset = "digits"', changes).replace('root = "data"\n', "")
    (run_path / "recipe.toml").write_text(recipe)
    result = call("sample", run_path, "-n", 4, "--temperature", 1)
    assert (result.exit_code, "no panel of real images: mnist" in result.stderr) == (0, True)
    with_data = call("sample", copied, "-n", 4, "--temperature", 1)
    assert "no panel" not in with_data.stderr
    narrow, wide = (
        Image.open(folder / "samples" / "samples-4-t1.png").width for folder in (run_path, copied)
    )
    assert narrow < wide


def test_strip_shows_a_row_for_each_sample(copied: Path) -> None:
    printed = json.loads(call("sample", copied, "--strip", "-n", 3, "--json").stdout)
    assert printed["file"].endswith("strip-3-t1.png")
    assert (printed["count"], printed["temperatures"]) == (3, [1.0])
    assert Image.open(printed["file"]).height > 3 * 64


@pytest.mark.parametrize("name", ["grid", "grid.txt"])
def test_a_picture_needs_a_pictures_name(finished: RunResult, name: str, tmp_path: Path) -> None:
    result = call("sample", finished.folder, "--output", tmp_path / name)
    assert (result.exit_code, "must end in .png" in result.stderr) == (2, True)
    assert not (tmp_path / name).exists()


def test_sample_of_vectors_is_a_npy_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = ["train.max_steps=1", "data.train_size=256", "data.test_size=64"]
    sets = [part for override in overrides for part in ("--set", override)]
    assert call("run", "moons", *sets, "--output", folder).exit_code == 0
    assert (folder / "samples" / "plane.png").is_file()
    call("sample", folder, "-n", 5)
    assert np.load(folder / "samples" / "samples-5-t1.npy").shape == (5, 2)
    several = call("sample", folder, "--temperature", 1, "--temperature", 0.5)
    strip = call("sample", folder, "--strip")
    binned = call("evaluate", folder, "--no-bin-centre")
    assert [several.exit_code, strip.exit_code, binned.exit_code] == [2, 2, 2]
    assert "these data have no bins" in words_of(binned.stderr)
    assert "one --temperature" in words_of(several.stderr)
    assert "this flow's samples are none" in words_of(strip.stderr)
