"""A run: what its folder holds, that it repeats, resumes, ends early, and fails with its place."""

import csv
import json
import math
from copy import deepcopy
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from rnode_dyn import (
    Recipe,
    RecipeError,
    RunError,
    RunResult,
    SolverError,
    load_recipe,
    load_run,
    run,
)
from rnode_dyn.running import runner
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.weights import load_flow
from rnode_dyn.training.loop import sample_grids
from rnode_dyn.training.loop.module import FlowTraining
from tests.tiny import TINY, run_until, same_weights, tiny, weights

SUMMARY = {
    "bits_per_dim",
    "bits_per_dim_stderr",
    "bits_per_dim_bin_centre",
    "nfe_forward",
    "kinetic_energy",
    "jacobian_frobenius",
    "parameters",
    "train_steps",
    "wall_clock_s",
    "seed",
    "versions",
}


def test_the_folder_holds_what_it_should(finished: RunResult) -> None:
    files = {str(p.relative_to(finished.folder)) for p in finished.folder.rglob("*") if p.is_file()}
    assert files == {
        "recipe.toml",
        "metrics.csv",
        "summary.json",
        "report.html",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "samples/samples.png",
        "samples/strip.png",
    }


def test_the_summary_says_all_and_is_finite(finished: RunResult) -> None:
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert summary == finished.summary
    assert summary.keys() >= SUMMARY
    assert all(math.isfinite(v) for v in summary.values() if isinstance(v, float))
    assert summary["train_steps"] == 2 * (256 // 64)


def test_training_beats_uniform_noise(finished: RunResult) -> None:
    assert finished.summary["bits_per_dim"] < math.log2(17) - 0.2


def test_metrics_have_the_figures_of_every_validation(finished: RunResult) -> None:
    with (finished.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    held_out = [float(r["validation/bits_per_dim"]) for r in rows if r["validation/bits_per_dim"]]
    assert len(held_out) == 2
    assert held_out[1] < held_out[0]


def test_the_resolved_recipe_repeats_the_run(finished: RunResult, tmp_path: Path) -> None:
    again = run(load_recipe(finished.folder / "recipe.toml"), tmp_path / "again")
    assert same_weights(finished.folder, again.folder)
    assert again.summary["bits_per_dim"] == finished.summary["bits_per_dim"]


def test_resuming_repeats_bit_for_bit(finished: RunResult, tmp_path: Path) -> None:
    run(tiny(epochs=1), tmp_path / "part")
    folder = RunFolder(tmp_path / "part")
    # The run was to have two epochs, and was stopped after the first.
    folder.recipe.write_text((finished.folder / "recipe.toml").read_text())
    resumed = resume(folder.path)
    assert same_weights(finished.folder, resumed.folder)
    assert resumed.summary["bits_per_dim"] == finished.summary["bits_per_dim"]


def test_resuming_keeps_the_history(tmp_path: Path) -> None:
    run(tiny(epochs=1), tmp_path / "part")
    folder = RunFolder(tmp_path / "part")
    folder.recipe.write_text(folder.recipe.read_text().replace("epochs = 1", "epochs = 2"))
    resume(folder.path)
    with folder.metrics.open() as file:
        epochs = {row["epoch"] for row in csv.DictReader(file) if row["validation/bits_per_dim"]}
    assert {float(epoch) for epoch in epochs} == {0.0, 1.0}


@pytest.mark.parametrize("limit", [{"max_steps": 3}, {"max_minutes": 0.0001}])
def test_an_end_within_an_epoch_is_kept(limit: dict[str, float], tmp_path: Path) -> None:
    result = run(tiny(epochs=None, **limit), tmp_path / "run")
    checkpoint = torch.load(RunFolder(result.folder).last_checkpoint, weights_only=False)
    assert checkpoint["global_step"] == result.summary["train_steps"] >= 1
    assert RunFolder(result.folder).best_checkpoint.is_file()


def test_weights_of_64_bits_take_a_tables_conditions_from_training_to_picture(
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(100, 4)))
    data = {"dataset": "npy", "root": str(tmp_path), "columns": 4, "condition_columns": [2, 3]}
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "data": {**data, "train_size": 40, "validation_size": 5, "test_size": 5},
            "model": {"field": {"kind": "mlp", "hidden": [4]}},
            "train": {"precision": "64-true", "max_steps": 1, "threads": 1},
        }
    )
    result = run(recipe, tmp_path / "run")
    assert (result.folder / "samples" / "plane.png").is_file()
    condition = torch.zeros(3, 2)
    scored = load_run(result.folder).score(torch.zeros(3, 2), condition=condition)
    assert scored.log_prob.isfinite().all()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-mixed", "64-true"])
def test_precisions_learn_what_single_precision_learns(
    precision: str, finished: RunResult, tmp_path: Path
) -> None:
    """Up to the noise of the trace's estimate, which is another one in 64 bits."""
    result = run(tiny(precision=precision), tmp_path / "run")
    bits, error = finished.summary["bits_per_dim"], finished.summary["bits_per_dim_stderr"]
    assert result.summary["bits_per_dim"] == pytest.approx(bits, abs=error)
    assert result.summary["skipped_steps"] == 0


def test_half_precision_is_named_as_what_it_is(tmp_path: Path) -> None:
    out = StringIO()
    result = run(
        tiny(precision="16-mixed", epochs=None, max_steps=1), tmp_path, console=Console(file=out)
    )
    if result.summary["versions"]["device"] == "cpu":
        assert result.summary["precision"] == "bf16-mixed"
        assert 'train.precision = "16-mixed" is bf16-mixed on this device' in out.getvalue()


def test_what_was_trained_in_64_bits_is_evaluated_in_64_bits(tmp_path: Path) -> None:
    result = run(tiny(precision="64-true", epochs=None, max_steps=1), tmp_path / "run")
    trained = load_run(result.folder)
    assert {p.dtype for p in trained.flow.parameters()} == {torch.float64}
    pixels = torch.rand(2, 1, 8, 8)
    density = trained.distribution()
    assert density.log_prob(pixels).dtype == density.sample((2,)).dtype == torch.float64
    assert result.summary["reconstruction_error"] < 1e-9
    saved = weights(result.folder)
    for name, value in trained.flow.state_dict().items():
        assert torch.equal(value, saved[f"model.{name}"])


def test_averaged_weights_are_what_is_evaluated(tmp_path: Path) -> None:
    result = run(tiny(epochs=1, ema=0.9), tmp_path / "run")
    checkpoint = torch.load(RunFolder(result.folder).last_checkpoint, weights_only=False)
    _, model = load_flow(RunFolder(result.folder))
    averaged = dict(model.named_parameters())
    trained = checkpoint["current_model_state"]
    differing = [k for k, v in averaged.items() if not torch.equal(v, trained[f"model.{k}"])]
    assert differing


def test_threads_are_as_asked_and_then_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    seen = []
    monkeypatch.setattr(runner, "_run", lambda *_: seen.append(torch.get_num_threads()))
    for threads in (1, "auto"):
        run(tiny(threads=threads), tmp_path)
    assert (seen, torch.get_num_threads()) == ([1, 2], 2)
    torch.set_num_threads(1)


def test_a_folder_in_use_is_not_overwritten(finished: RunResult) -> None:
    before = (finished.folder / "summary.json").read_text()
    with pytest.raises(RunError, match="is not empty: give another --output"):
        run(tiny(), finished.folder)
    assert (finished.folder / "summary.json").read_text() == before


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_what_is_no_run_is_refused(make: object, tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    make(path)  # type: ignore[operator]
    for use in (resume, lambda folder: load_flow(RunFolder(folder))):
        with pytest.raises(RunError, match="is no run folder"):
            use(path)


def test_a_solve_that_breaks_names_the_last_sound_weights(tmp_path: Path) -> None:
    run(tiny(epochs=1), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    text = folder.recipe.read_text().replace("epochs = 1", "epochs = 9")
    folder.recipe.write_text(text.replace("learning_rate = 0.02", "learning_rate = 1e30"))
    checkpoint = torch.load(folder.last_checkpoint, weights_only=False)
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        group["lr"] = group["initial_lr"] = 1e30
    checkpoint["lr_schedulers"][0]["base_lrs"] = [1e30]
    torch.save(checkpoint, folder.last_checkpoint)
    before = weights(folder.path)
    with pytest.raises(SolverError) as caught:
        resume(folder.path)
    assert str(folder.last_checkpoint) in "".join(caught.value.__notes__)
    assert all(torch.equal(value, before[name]) for name, value in weights(folder.path).items())


@pytest.mark.parametrize("given", [{"strategy": "dppp"}, {"accelerator": "tpu"}])
def test_devices_that_are_not_there_are_refused(given: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        run(tiny(**given), tmp_path / "run")
    assert caught.value.key == "train"
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_when_model_and_data_do_not_fit(tmp_path: Path) -> None:
    table = {**TINY, "data": {"dataset": "moons"}}
    with pytest.raises(ValueError, match="continuous values"):
        run(Recipe.model_validate(table), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def test_damaged_checkpoints_are_named(copied: Path) -> None:
    folder = RunFolder(copied)
    damage(folder.best_checkpoint)
    with pytest.raises(RunError, match=r"best\.ckpt cannot be read"):
        load_flow(folder)
    damage(folder.last_checkpoint)
    with pytest.raises(RunError, match=r"last\.ckpt cannot be read"):
        resume(folder.path)
    folder.last_checkpoint.unlink()
    with pytest.raises(RunError, match=r"no last\.ckpt"):
        resume(folder.path)


def test_weights_of_another_model_are_named(copied: Path) -> None:
    folder = RunFolder(copied)
    text = folder.recipe.read_text()
    folder.recipe.write_text(text.replace("    16,\n", "    17,\n"))
    with pytest.raises(RunError, match="do not fit the model"):
        load_flow(folder)


def test_resuming_goes_on_with_the_clock_and_past_a_damaged_line(
    finished: RunResult, copied: Path
) -> None:
    folder = RunFolder(copied)
    folder.metrics.write_text(folder.metrics.read_text() + "1,7")
    kept = torch.load(folder.last_checkpoint, weights_only=True)["rnode_dyn"]["wall_clock_s"]
    again = resume(folder.path)
    assert round(again.summary["wall_clock_s"], 2) >= round(kept, 2) > 0
    assert again.summary["bits_per_dim"] == finished.summary["bits_per_dim"]


def test_grids_while_training_show_the_weights_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(
        sample_grids, "draw_grid", lambda _, model, *__: drawn.append(deepcopy(model.state_dict()))
    )
    table = {**TINY, "samples": {"every": 1}, "train": {"epochs": 1, "ema": 0.9}}
    run(Recipe.model_validate(table), tmp_path / "run")
    kept = weights(tmp_path / "run")
    assert len(drawn) == 1
    assert all(torch.equal(value, kept[f"model.{name}"]) for name, value in drawn[0].items())


def test_a_single_sample_has_no_standard_error(tmp_path: Path) -> None:
    table = {**TINY, "data": {**TINY["data"], "test_size": 1}}  # type: ignore[dict-item]
    run(Recipe.model_validate(table), tmp_path / "run")
    text = (tmp_path / "run" / "summary.json").read_text()
    assert json.loads(text)["bits_per_dim_stderr"] is None


def test_resuming_within_an_epoch_repeats_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validated every 3 steps of an epoch of 4, and interrupted in the second epoch, after 6."""
    recipe = tiny(epochs=2, validate_every_steps=3)
    whole = run(recipe, tmp_path / "whole")

    run_until(7, recipe, tmp_path / "part", monkeypatch)
    resumed = resume(tmp_path / "part")
    assert same_weights(whole.folder, resumed.folder)
    assert whole.summary["train_steps"] == resumed.summary["train_steps"] == 8


def test_the_last_weights_are_kept_where_they_are_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse_each_time(module: FlowTraining, batch: torch.Tensor, batch_idx: int) -> None:
        module.log("validation/bits_per_dim", float(module.steps))

    monkeypatch.setattr(FlowTraining, "validation_step", worse_each_time)
    folder = RunFolder(run(tiny(epochs=3), tmp_path / "run").folder)
    steps = [
        torch.load(path, weights_only=True)["global_step"]
        for path in (folder.best_checkpoint, folder.last_checkpoint)
    ]
    assert steps == [4, 12]
