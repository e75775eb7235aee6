"""A run that is gone on with otherwise: what may be is told and written down, the rest refused."""

import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console

from rnode_dyn import Recipe, RunError, RunResult, load_recipe, run
from rnode_dyn.running.fingerprint import fingerprint, other_data
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.checkpoints import read_checkpoint, write_checkpoint
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.kept import kept_beside
from rnode_dyn.runs.weights import load_flow
from tests.survive.scenarios import differences
from tests.tiny import TINY, run_until, same_weights, tiny


def test_a_longer_training_is_the_training_that_was_meant_to_be(
    finished: RunResult, tmp_path: Path
) -> None:
    run(tiny(epochs=1), tmp_path / "run")
    resumed = resume(tmp_path / "run", overrides=["train.epochs=2"])
    assert same_weights(finished.folder, resumed.folder)
    assert load_recipe(tmp_path / "run" / "recipe.toml").train.epochs == 2
    history = (tmp_path / "run" / "recipe.toml").read_text().splitlines()[0]
    assert history.startswith("# history: ")
    assert history.endswith(": train.epochs = 2, before: 1")


def holding(held_out: int, **train: object) -> Recipe:
    """The tiny recipe with so many validation points."""
    recipe = tiny(**train)
    data = recipe.data.model_copy(update={"validation_size": held_out})
    return recipe.model_copy(update={"data": data})


def test_a_stage_that_is_over_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [{"objective": "flow-matching", "max_steps": 2}, {"max_steps": 2}]
    run_until(3, tiny(epochs=None, stage=stages), tmp_path / "run", monkeypatch)
    with pytest.raises(RunError, match="that stage is over, and nothing would come of it"):
        resume(tmp_path / "run", overrides=["train.stage.0.max_steps=9"])


@pytest.mark.parametrize(("ema", "held_out"), [(None, 50), (0.9, 50), (0.9, 0)])
def test_an_end_within_an_epoch_can_be_put_off(
    ema: float | None, held_out: int, tmp_path: Path
) -> None:
    run(holding(held_out, epochs=None, max_steps=3, ema=ema), tmp_path / "run")
    resume(tmp_path / "run", overrides=["train.max_steps=6"])
    whole = run(holding(held_out, epochs=None, max_steps=6, ema=ema), tmp_path / "whole")
    assert same_weights(whole.folder, tmp_path / "run")
    mine, theirs = (
        read_checkpoint(RunFolder(path).last_checkpoint).get("current_model_state", {})
        for path in (tmp_path / "run", whole.folder)
    )
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_another_rate_holds_from_there_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_until(6, tiny(), tmp_path / "run", monkeypatch)
    resume(tmp_path / "run", overrides=["train.learning_rate=0.001", "train.weight_decay=0.1"])
    kept = read_checkpoint(RunFolder(tmp_path / "run").last_checkpoint)
    (group,) = kept["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.001, 0.001, 0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model.field.hidden=[8]", r"model.field.hidden = \[8\], before: \[16\]"),
        ("seed=4", "seed = 4, before: 3"),
        ("data.batch_size=32", "data.batch_size = 32, before: 64"),
        ("data.train_size=255", "data.train_size = 255, before: 256"),
        ("train.ema=0.9", "train.ema = 0.9, before: absent"),
        ("train.epochs=1", "it is at 2 already"),
        ("regularizers.kinetic_energy=0", "regularizers.kinetic_energy = 0"),
    ],
)
def test_another_training_is_refused_and_nothing_written(
    change: str, says: str, copied: Path
) -> None:
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    with pytest.raises(RunError, match=says):
        resume(copied, overrides=[change])
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before


def test_a_change_and_another_version_are_told(copied: Path) -> None:
    folder = RunFolder(copied)
    checkpoint = read_checkpoint(folder.last_checkpoint)
    kept_beside(checkpoint)["versions"]["torch"] = "1.0"
    write_checkpoint(checkpoint, folder.last_checkpoint)
    console = Console(record=True, width=200, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    resume(copied, console, overrides=["train.clip=5"])
    said = console.export_text()
    assert "torch was 1.0 when the checkpoint was written" in said
    assert "from here on train.clip = 5.0, before: absent" in said


def test_other_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "numbers"
    folder.mkdir()
    import numpy as np

    random = np.random.default_rng(0)
    for part, count in (("train", 64), ("validation", 8), ("test", 8)):
        np.save(folder / f"{part}.npy", random.normal(size=(count, 3)).astype("float32"))
    table = {**TINY, "data": {"dataset": "npy", "root": str(folder), "batch_size": 16}}
    recipe = Recipe.model_validate({**table, "model": {"field": TINY["model"]["field"]}})  # type: ignore[index]
    run_until(5, recipe, tmp_path / "run", monkeypatch)
    np.save(folder / "train.npy", random.normal(size=(64, 3)).astype("float32"))
    with pytest.raises(RunError, match="the train split has other samples"):
        resume(tmp_path / "run")


def test_a_moved_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tiny(), tmp_path / "whole")
    run_until(6, tiny(), tmp_path / "here", monkeypatch)
    shutil.move(tmp_path / "here", tmp_path / "there")
    resume(tmp_path / "there")
    assert differences(whole.folder, tmp_path / "there") == []


def test_a_damaged_recipe_is_taken_from_the_checkpoint(finished: RunResult, copied: Path) -> None:
    RunFolder(copied).recipe.write_bytes(b"\xff\x00 =")
    told: list[str] = []
    recipe, _ = load_flow(RunFolder(copied), tell=told.append)
    assert recipe == load_recipe(finished.folder / "recipe.toml")
    assert "recipe.toml" in told[0]


def test_a_recipe_that_was_cut_off_is_told(copied: Path) -> None:
    folder = RunFolder(copied)
    text = folder.recipe.read_text()
    folder.recipe.write_text(text[: text.index("[divergence]")])
    told: list[str] = []
    load_flow(folder, tell=told.append)
    assert any("divergence.noise" in line for line in told)


def test_fingerprints_tell_what_differs() -> None:
    from rnode_dyn.data import load_data

    one, other = (fingerprint(load_data("moons", train_size=64, seed=k)) for k in (0, 1))
    assert other_data(one, one) is None
    assert other_data(one, other) == "the train split has other samples"
