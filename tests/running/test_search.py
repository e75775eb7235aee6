"""A search looks within its ranges, goes on with what there is, and refuses before it runs."""

import json
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

from rnode_dyn import RecipeError, RunError
from rnode_dyn.cli import app
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.running.search import search
from rnode_dyn.runs.space import parse_space
from tests.tiny import TINY

RATE = "train.learning_rate=1e-3..1e-2"
ALGORITHM = "solver.algorithm=rk4,heun"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps({**TINY, "train": {"max_steps": 1}}))
    return path


def test_a_search_goes_on_with_its_trials(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[search]'")
    first = search(recipe, [RATE, ALGORITHM], 2, output=tmp_path / "search")
    again = search(recipe, [RATE, ALGORITHM], 3, output=tmp_path / "search")
    assert [run.kept for run in again.runs] == [True, True, False]
    assert [r.member.overrides for r in again.runs[:2]] == [r.member.overrides for r in first.runs]
    found = [run.member.recipe for run in again.runs]
    assert all(1e-3 <= one.train.learning_rate <= 1e-2 for one in found)
    assert {one.solver.algorithm for one in found} <= {"rk4", "heun"}
    assert len({one.train.learning_rate for one in found}) == 3
    whole = search(recipe, [RATE, ALGORITHM], 3, output=tmp_path / "whole")
    assert [run.member.recipe for run in whole.runs] == found  # as if it had not been left
    with pytest.raises(RunError, match=r"train.learning_rate is not one that is searched"):
        search(recipe, ["train.learning_rate=1..2", ALGORITHM], 2, output=tmp_path / "search")


def test_a_space_knows_what_a_recipe_has() -> None:
    recipe = load_recipe("moons", ["train.learning_rate=0.005"])
    assert parse_space(RATE).value_in(recipe) == 0.005
    assert parse_space("train.learning_rate=1..2").value_in(recipe) is None
    hidden = parse_space("model.field.hidden=[8],[64,64]")
    chosen = load_recipe("moons", ["model.field.hidden=[64,64]"])
    assert hidden.value_in(chosen) == "model.field.hidden=[64,64]"
    assert parse_space("train.accumulate=1..4").is_whole
    assert not parse_space(RATE).is_whole


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--search", "train.learning=1..2", "--trials", "2"], "train.learning_rate?"),
        (["--search", "train.learning_rate=-1..2", "--trials", "2"], "train.learning_rate=-1"),
        (["--search", "train.learning_rate=2..1", "--trials", "2"], "not a space"),
        (["--search", RATE, "--search", RATE, "--trials", "2"], "given twice"),
        (["--search", RATE], "--trials N"),
        (["--trials", "2"], "--trials N"),
        (["--search", RATE, "--trials", "2", "--seeds", "3"], "drop --grid and --seeds"),
    ],
)
def test_a_wrong_search_is_refused_before_anything_runs(
    options: list[str], says: str, recipe: Path, tmp_path: Path
) -> None:
    where = tmp_path / "search"
    result = CliRunner().invoke(
        app, ["sweep", str(recipe), *options, "--output", str(where)], env={"COLUMNS": "200"}
    )
    assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
    assert not where.exists()


def test_without_optuna_the_line_is_said_that_installs_it(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnode_dyn.running.search.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'rnode-dyn\[search\]'"):
        search(recipe, [RATE], 2, output=tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_a_search_needs_held_out_data(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[search]'")
    with pytest.raises(RecipeError, match="chooses by held-out data"):
        search(recipe, [RATE], 2, overrides=["data.validation_size=0"], output=tmp_path / "s")


def test_the_command_prints_the_trials(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[search]'")
    options = ["--search", RATE, "--trials", "1", "--output", str(tmp_path / "s"), "--json"]
    printed = json.loads(CliRunner().invoke(app, ["sweep", str(recipe), *options]).stdout)
    (run,) = printed["runs"]
    assert run["set"][0].startswith("train.learning_rate=0.00")
    assert printed["report"] is None
