"""A run of a standardised table, whose samples, densities and figures are in the table's units."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from rnode_dyn import DataWarning, Recipe, RunError, RunWarning, load_run, run
from rnode_dyn.cli import app
from rnode_dyn.flows.standardize import standardizing
from rnode_dyn.report.plane import density_on_grid, in_own_units, trajectories
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.checkpoints import read_checkpoint, write_checkpoint
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.kept import keep_beside
from rnode_dyn.runs.weights import load_flow
from tests.tiny import run_until

MEAN, SCALE = np.array([1e6, -5.0]), np.array([1e3, 1e-3])
ROWS = np.random.default_rng(0).standard_normal((1000, 2)) * SCALE + MEAN


def recipe_of(root: Path, **train: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "units",
            "data": {"dataset": "npy", "root": str(root), "standardize": True, "batch_size": 64},
            "model": {"field": {"kind": "mlp", "hidden": [8]}},
            "solver": {"algorithm": "rk4", "step": 0.5},
            "divergence": {"estimator": "exact"},
            "train": train or {"max_steps": 30},
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("table")
    np.save(root / "data.npy", ROWS)
    return root


@pytest.fixture(scope="module")
def folder(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(recipe_of(table), tmp_path_factory.mktemp("run") / "of-units").folder


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_figures_are_in_the_tables_units(folder: Path) -> None:
    """Trained a little, it is near the truth, whose entropy is known."""
    summary = json.loads((folder / "summary.json").read_text())
    entropy = float(stats.norm(MEAN, SCALE).entropy().sum())
    assert summary["log_likelihood_nats"] == pytest.approx(-entropy, abs=0.3)
    (units,) = standardizing(load_run(folder).flow)
    between = summary["log_likelihood_nats_standardised"] - summary["log_likelihood_nats"]
    assert between == pytest.approx(float(units.scale.log().sum()))
    bits = -summary["log_likelihood_nats"] / (2 * math.log(2))
    assert summary["bits_per_dim"] == pytest.approx(bits)
    assert load_run(folder).metrics[-1]["validation/bits_per_dim"] == pytest.approx(bits, abs=0.3)


def test_densities_from_python_and_the_command_agree(folder: Path) -> None:
    distribution = load_run(folder).distribution()
    with torch.no_grad():
        scores = distribution.log_prob(torch.from_numpy(ROWS[900:]))
    evaluated = json.loads(call("evaluate", folder, "--json"))
    summary = json.loads((folder / "summary.json").read_text())
    assert evaluated["log_likelihood_nats"] == pytest.approx(float(scores.mean()), abs=1e-4)
    assert evaluated["log_likelihood_nats"] == pytest.approx(summary["log_likelihood_nats"])
    assert "the same, in standardised units" in call("evaluate", folder)


def test_samples_are_in_the_tables_units(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "drawn.npy"
    said = json.loads(call("sample", folder, "-n", 2000, "--output", file, "--json"))
    drawn = np.load(said["file"])
    assert abs((drawn.mean(axis=0) - MEAN) / SCALE).max() < 0.3
    assert abs(drawn.std(axis=0) / SCALE - 1).max() < 0.3
    assert abs((load_run(folder).distribution().sample((2000,)).numpy() - MEAN) / SCALE).max() < 6


def test_what_is_drawn_is_in_the_tables_units(folder: Path) -> None:
    flow = load_run(folder).flow
    ends = in_own_units(flow, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    np.testing.assert_allclose((ends.mean(dim=0) - MEAN) / SCALE, 0, atol=0.2)
    area = float((ends[1] - ends[0]).prod()) * 25
    total = density_on_grid(flow, 5.0, points=100).detach().mean() * area
    assert float(total) == pytest.approx(1, abs=0.02)
    paths = trajectories(flow, torch.from_numpy(ROWS[:5])).detach()
    np.testing.assert_allclose(paths[0], ROWS[:5], rtol=1e-7)


@pytest.mark.parametrize(
    "train",
    [
        {"max_steps": 30, "ema": 0.9},
        {"stage": [{"objective": "flow-matching", "max_steps": 10}, {"max_steps": 10}]},
        {"max_steps": 30, "precision": "bf16-mixed"},
    ],
    ids=["averaged", "two stages", "bfloat16"],
)
def test_other_ways_to_train_keep_the_units(
    train: dict[str, object], table: Path, folder: Path, tmp_path: Path
) -> None:
    trained = run(recipe_of(table, **train), tmp_path / "run").folder
    (units,), (expected,) = (standardizing(load_run(f).flow) for f in (trained, folder))
    assert torch.equal(units.shift, expected.shift)
    assert torch.equal(units.scale, expected.scale)


def test_a_governed_flow_sees_the_rows_unblurred(table: Path, tmp_path: Path) -> None:
    recipe = recipe_of(table).model_dump(exclude_unset=True)
    governed = Recipe.model_validate({**recipe, "solver": {"algorithm": "rk4", "step": "auto"}})
    assert run(governed, tmp_path / "run").summary["governor_gap"] < 0.1


def test_a_resumed_run_goes_on_in_its_units(
    table: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(20, recipe_of(table), tmp_path / "run", monkeypatch)
    resumed, whole = (load_run(f) for f in (resume(tmp_path / "run").folder, folder))
    (units,), (expected,) = (standardizing(trained.flow) for trained in (resumed, whole))
    assert torch.equal(units.scale, expected.scale)
    figures = [trained.summary["log_likelihood_nats"] for trained in (resumed, whole)]  # type: ignore[index]
    assert figures[0] == pytest.approx(figures[1], abs=0.1)


def test_columns_beyond_float32_beside_a_constant_are_trained_on(tmp_path: Path) -> None:
    sizes = np.array([1e160, 1e-160, 0.0, 1.0])
    rows = np.random.default_rng(0).standard_normal((200, 4)) * sizes + [0, 0, 0.1, 1.7e9]
    np.save(tmp_path / "data.npy", rows)
    with pytest.warns(DataWarning, match="column 2 "):
        trained = load_run(run(recipe_of(tmp_path, max_steps=3), tmp_path / "run").folder)
    assert trained.summary is not None
    assert math.isfinite(trained.summary["log_likelihood_nats"])
    drawn = trained.distribution().sample((400,)).numpy()
    spread = np.abs(drawn - [0, 0, 0.1, 1.7e9]).mean(axis=0) / np.where(sizes == 0, 1, sizes)
    np.testing.assert_allclose(spread, math.sqrt(2 / math.pi), rtol=0.2)


def test_standardising_is_part_of_the_flow(folder: Path) -> None:
    with pytest.raises(RunError, match=r"data\.standardize is part of the flow in"):
        load_flow(RunFolder(folder), overrides=["data.standardize=false"])


@pytest.fixture
def old(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run as it was written when data were standardised and flows knew nothing of it."""
    plain = tmp_path / "plain"
    plain.mkdir()
    np.save(plain / "data.npy", (ROWS - ROWS[:810].mean(axis=0)) / ROWS[:810].std(axis=0))
    recipe = recipe_of(plain).model_dump(exclude_unset=True)
    recipe["data"]["standardize"] = False
    run_until(20, Recipe.model_validate(recipe), tmp_path / "old", monkeypatch)
    text = (tmp_path / "old" / "recipe.toml").read_text()
    text = text.replace("standardize = false", "standardize = true").replace(str(plain), str(table))
    (tmp_path / "old" / "recipe.toml").write_text(text)
    for path in (tmp_path / "old" / "checkpoints").glob("*.ckpt"):
        checkpoint = read_checkpoint(path)
        keep_beside(checkpoint, {})  # nothing was kept then
        write_checkpoint(checkpoint, path)
    return tmp_path / "old"


MISSING = "weights lack the shift and scale that its data were standardised by"


def test_an_old_run_is_read_with_a_warning(old: Path) -> None:
    with pytest.warns(RunWarning, match=MISSING):
        trained = load_run(old, "last")
    assert not standardizing(trained.flow)


def test_an_old_run_is_evaluated_and_resumed_as_it_was(old: Path, table: Path) -> None:
    with pytest.warns(RunWarning, match=MISSING):
        went_on = resume(old)
    assert -3.5 < went_on.summary["log_likelihood_nats"] < -2.5
    result = CliRunner().invoke(app, ["evaluate", str(old), "--json"], catch_exceptions=False)
    assert "warning: " in result.stderr
    assert MISSING in " ".join(result.stderr.split())
    evaluated = json.loads(result.stdout)
    assert evaluated["log_likelihood_nats"] == pytest.approx(went_on.summary["log_likelihood_nats"])
    assert evaluated["log_likelihood_nats_standardised"] is None
