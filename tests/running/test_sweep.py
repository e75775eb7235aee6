"""A sweep runs each member once, goes on where it was, compares, and refuses before it runs."""

import json
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from rnode_dyn import RecipeError, RunError
from rnode_dyn.cli import app
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.running import sweep as sweeping
from rnode_dyn.running.sweep import sweep
from rnode_dyn.runs.grid import members, parse_grid
from tests.tiny import TINY, run_until

GRID = "regularizers.kinetic_energy=0,0.1"
SHORT = {**TINY, "train": {"max_steps": 2, "learning_rate": 1e-2}}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(SHORT))
    return path


def call(*arguments: object):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("a.b=0,0.5", ["a.b=0", "a.b=0.5"]),
        ("solver.algorithm=rk4, dopri5", ["solver.algorithm=rk4", "solver.algorithm=dopri5"]),
        ("model.field.hidden=[8],[8,8]", ["model.field.hidden=[8]", "model.field.hidden=[8,8]"]),
        ('title="a,b","c"', ['title="a,b"', 'title="c"']),
    ],
)
def test_a_grid_is_split_at_its_own_commas(text: str, overrides: list[str]) -> None:
    assert parse_grid(text) == overrides


def test_members_are_every_combination_with_the_seeds_from_the_recipes_on() -> None:
    found = members("moons", [GRID, "train.learning_rate=1e-3,1e-2"], seeds=2)
    assert len({m.name for m in found}) == len(found) == 8
    chosen = {(m.recipe.regularizers.kinetic_energy, m.recipe.train.learning_rate) for m in found}
    assert chosen == {(0.0, 1e-3), (0.0, 1e-2), (0.1, 1e-3), (0.1, 1e-2)}
    first = load_recipe("moons").seed
    assert {m.recipe.seed for m in found} == {first, first + 1}


@pytest.mark.parametrize(
    ("grid", "seeds", "says"),
    [
        (["regularizers.kinetic=0,1"], 1, "did you mean regularizers.kinetic_energy?"),
        (["regularizers.kinetic=0,1"], 1, "--grid regularizers.kinetic=0"),
        (["regularizers.kinetic_energy=0,-1"], 1, "--grid regularizers.kinetic_energy=-1"),
        (["regularizers.kinetic_energy"], 1, "not a grid"),
        (["regularizers.kinetic_energy=0,,1"], 1, "not a grid"),
        ([GRID, "regularizers.kinetic_energy=2"], 1, "two grids have this key"),
        (["regularizers.kinetic_energy=0,0"], 1, "0 is given twice"),
        (["seed=1,2"], 2, "drop one"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(
    grid: list[str], seeds: int, says: str, recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as refused:
        sweep(recipe, grid, seeds, output=tmp_path / "sweep")
    assert says in str(refused.value)
    options = [part for text in grid for part in ("--grid", text)]
    result = call(recipe, *options, "--seeds", seeds, "--output", tmp_path / "sweep")
    assert result.exit_code == 2
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_keeps_takes_up_and_compares(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "sweep"
    one, other = members(recipe, [GRID])
    run_until(1, other.recipe, where / other.name, monkeypatch)
    first = sweep(recipe, [GRID], output=where)
    assert [(s.kept, s.failed) for s in first.runs] == [(False, None)] * 2
    assert [r.summary["train_steps"] for r in first.records if r.summary] == [2, 2]
    assert first.report is not None
    assert "kinetic_energy" in first.report.read_text()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was run again")

    for name in ("run", "resume"):
        monkeypatch.setattr(sweeping, name, never)
    result = call(recipe, "--grid", GRID, "--output", where, "--json")
    printed = json.loads(result.stdout)
    assert [run["kept"] for run in printed["runs"]] == [True, True]
    assert printed["runs"][0]["set"] == ["regularizers.kinetic_energy=0", "seed=3"]
    assert printed["runs"][0]["summary"] == first.records[0].summary
    table = call(recipe, "--grid", GRID, "--output", where).stdout
    assert table.startswith("| recipe | runs | bits/dim")
    assert "| kinetic_energy 0.1 | 1 |" in table
    with pytest.raises(RunError, match=r"there train.max_steps is 2, and 3 is asked for"):
        sweep(recipe, [GRID], overrides=["train.max_steps=3"], output=where)
    assert one.name == "kinetic_energy=0-seed=3"


def test_a_run_that_breaks_down_leaves_the_others(recipe: Path, tmp_path: Path) -> None:
    grid = ["train.learning_rate=1e-3,1e30"]
    result = call(recipe, "--grid", grid[0], "--output", tmp_path / "sweep", "--json")
    printed = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [run["failed"] is None for run in printed["runs"]] == [True, False]


def test_a_sweep_of_nothing_is_refused(recipe: Path) -> None:
    result = call(recipe)
    assert (result.exit_code, "--seeds N" in result.stderr) == (2, True)
