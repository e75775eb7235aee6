"""Training in stages: one table of figures, one best checkpoint, and resuming in any stage."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pydantic import ValidationError

from rnode_dyn import Recipe, RunError, RunResult, load_recipe, run
from rnode_dyn.recipe.load import recipe_to_toml
from rnode_dyn.recipe.schema import SamplesRecipe
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.weights import load_flow
from rnode_dyn.training.loop.module import FlowTraining
from rnode_dyn.training.loop.stages import build_objective
from rnode_dyn.training.objectives.flow_matching import FlowMatching
from rnode_dyn.training.objectives.likelihood import Likelihood
from tests.tiny import TINY, run_until, same_weights

FIRST = 10
MATCHING = {
    "objective": "flow-matching",
    "max_steps": FIRST,
    "learning_rate": 1e-2,
    "batch_size": 32,
}
STAGES = [MATCHING, {"epochs": 3}]
EPOCH = 256 // 64


def staged(stages: list[dict[str, Any]], **train: Any) -> Recipe:
    table = {"learning_rate": 2e-2, "validate_every_steps": 3, **train, "stage": stages}
    return Recipe.model_validate({**TINY, "train": table})


def rows_of(folder: Path) -> list[dict[str, str]]:
    with RunFolder(folder).metrics.open() as file:
        return list(csv.DictReader(file))


def checkpoint(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(staged(STAGES), tmp_path_factory.mktemp("runs") / "staged")


def test_stages_are_one_training(two_stages: RunResult) -> None:
    assert two_stages.summary["train_steps"] == FIRST + 3 * EPOCH
    kept = checkpoint(RunFolder(two_stages.folder).last_checkpoint)
    assert (kept["rnode_dyn"]["stage"], kept["rnode_dyn"]["steps"]) == (1, FIRST)
    assert kept["global_step"] == 3 * EPOCH


def test_each_stage_keeps_its_sample_grids(tmp_path: Path) -> None:
    recipe = staged([MATCHING, {"epochs": 1}], validate_every_steps=None)
    run(recipe.model_copy(update={"samples": SamplesRecipe(count=4, every=1)}), tmp_path / "run")
    grids = {path.name for path in RunFolder(tmp_path / "run").samples.glob("*epoch*")}
    assert grids == {"stage-0-epoch-0001.png", "stage-1-epoch-0001.png"}


def test_the_weights_between_stages_are_kept(two_stages: RunResult, tmp_path: Path) -> None:
    alone = run(staged([{**MATCHING, "max_steps": FIRST}]), tmp_path / "alone")
    _, between = load_flow(RunFolder(two_stages.folder), "stage-0")
    _, ended = load_flow(RunFolder(alone.folder), "last")
    pairs = zip(between.parameters(), ended.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_checkpoint_that_is_not_there_is_told_by_those_that_are(two_stages: RunResult) -> None:
    with pytest.raises(RunError, match="no checkpoint 'stage-7', but best, last, stage-0"):
        load_flow(RunFolder(two_stages.folder), "stage-7")


def test_metrics_tell_the_stage_and_count_the_steps_on(two_stages: RunResult) -> None:
    rows = rows_of(two_stages.folder)
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(steps)
    for row in rows:
        assert float(row["stage"]) == (int(row["step"]) >= FIRST)
    validated = [int(row["step"]) for row in rows if row["validation/bits_per_dim"]]
    assert min(validated) < FIRST <= max(validated)
    clock = [float(row["training_s"]) for row in rows]
    assert clock == sorted(clock)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(AVERAGED, tmp_path_factory.mktemp("runs") / "averaged")


# 9 is a multiple of the 3 steps between validations: the first stage's last step is then validated
# as one of them, and lies in the checkpoint before the training has ended.
AVERAGED = staged([{**MATCHING, "max_steps": 9}, {"max_steps": 6}], ema=0.9)


@pytest.mark.parametrize("at", [3, 7, 9, 10, 13])
def test_resuming_repeats_bit_for_bit_with_averaged_weights(
    averaged: RunResult, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(at, AVERAGED, tmp_path / "part", monkeypatch)
    resumed = resume(tmp_path / "part")
    assert same_weights(averaged.folder, resumed.folder)
    for name in ("stage-0", "last"):
        whole, parts = (
            checkpoint(RunFolder(result.folder).checkpoint(name))["state_dict"]
            for result in (averaged, resumed)
        )
        assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_the_best_weights_are_known_where_a_run_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin = {"max_steps": 6, "learning_rate": 0.1}
    run_until(12, staged([{"max_steps": 9}, ruin]), tmp_path / "here", monkeypatch)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.copytree(tmp_path / "here", tmp_path / "kept")
    resume(tmp_path / "there")
    folder = RunFolder(tmp_path / "there")
    assert checkpoint(folder.best_checkpoint)["rnode_dyn"]["stage"] == 0
    assert checkpoint(folder.last_checkpoint)["rnode_dyn"]["stage"] == 1
    for name in ("best.ckpt", "last.ckpt"):
        files = (RunFolder(tmp_path / run).checkpoints / name for run in ("here", "kept"))
        assert len({file.read_bytes() for file in files}) == 1


@pytest.mark.one_in(2)
@pytest.mark.parametrize("at", [3, 7, FIRST - 1, FIRST, FIRST + 1, 14, 19])
def test_resuming_in_any_stage_repeats_bit_for_bit(
    two_stages: RunResult, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(at, staged(STAGES), tmp_path / "part", monkeypatch)
    resumed = resume(tmp_path / "part")
    assert same_weights(two_stages.folder, resumed.folder)
    for name in ("bits_per_dim", "train_steps"):
        assert resumed.summary[name] == two_stages.summary[name]
    figures = ("step", "stage", "validation/bits_per_dim", "train/matching", "train/bits_per_dim")
    whole, parts = (
        [[row.get(name) for name in figures] for row in rows_of(result.folder)]
        for result in (two_stages, resumed)
    )
    assert parts == whole


def test_the_best_weights_of_an_earlier_stage_survive_a_worse_one(tmp_path: Path) -> None:
    ruin = {"max_steps": 6, "learning_rate": 0.1}
    result = run(staged([{"max_steps": 9}, ruin]), tmp_path / "run")
    rows = [row for row in rows_of(result.folder) if row["validation/bits_per_dim"]]
    bits = {stage: [float(r["validation/bits_per_dim"]) for r in rows if float(r["stage"]) == stage]
            for stage in (0, 1)}  # fmt: skip
    assert min(bits[0]) < min(bits[1])
    folder = RunFolder(result.folder)
    assert checkpoint(folder.best_checkpoint)["rnode_dyn"]["stage"] == 0
    assert checkpoint(folder.last_checkpoint)["rnode_dyn"]["stage"] == 1


def test_better_weights_of_a_later_stage_are_the_best(two_stages: RunResult) -> None:
    folder = RunFolder(two_stages.folder)
    assert checkpoint(folder.best_checkpoint)["rnode_dyn"]["stage"] == 1
    kept = sorted(p.name for p in folder.checkpoints.iterdir())
    assert kept == ["best.ckpt", "last.ckpt", "stage-0.ckpt"]


class Loses(pl.Callback):
    """Tells which steps found no last checkpoint, or none before it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps = RunFolder(folder), list[int]()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        folder, stage = self.folder, trainer.lightning_module.past.stage
        there = folder.last_checkpoint.is_file() and folder.previous_checkpoint.is_file()
        if stage and not there:
            self.steps.append(trainer.global_step)


@pytest.mark.parametrize("name", ["relative", "link/run"])
def test_a_folder_by_another_name_keeps_its_checkpoints(
    two_stages: RunResult, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    Path("link").symlink_to("real")
    loses = Loses(tmp_path / name)
    folder = RunFolder(run(staged(STAGES), name, callbacks=[loses]).folder)
    assert loses.steps == []
    assert {p.name for p in folder.checkpoints.iterdir()} >= {"best.ckpt", "last.ckpt"}
    assert same_weights(two_stages.folder, folder.path)


def test_each_stage_has_its_own_batches_rates_and_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(module: FlowTraining, batch: torch.Tensor, batch_idx: int) -> None:
        rate = module.trainer.optimizers[0].param_groups[0]["lr"]
        seen.append((len(batch), rate, type(module.objective)))

    monkeypatch.setattr(FlowTraining, "on_train_batch_start", note)
    warm = {**MATCHING, "max_steps": 3, "warmup_steps": 2}
    own = {"max_steps": 4, "schedule": "cosine"}
    run(staged([warm, own], warmup_steps=0), tmp_path / "run")
    rates = [rate for _, rate, _ in seen]
    assert [(size, kind) for size, _, kind in seen] == 3 * [(32, FlowMatching)] + 4 * [
        (64, Likelihood)
    ]
    assert rates[:3] == pytest.approx([0.5e-2, 1e-2, 1e-2])
    # ½ (1 + cos(π k/4))
    assert rates[3:] == pytest.approx([2e-2, 0.853553 * 2e-2, 1e-2, 0.146447 * 2e-2], rel=1e-4)


def test_one_stage_is_the_training_without_any(tmp_path: Path) -> None:
    plain = Recipe.model_validate({**TINY, "train": {"max_steps": 5, "learning_rate": 2e-2}})
    table = {"learning_rate": 2e-2, "stage": [{"objective": "likelihood", "max_steps": 5}]}
    one = run(plain, tmp_path / "plain")
    other = run(Recipe.model_validate({**TINY, "train": table}), tmp_path / "staged")
    assert same_weights(one.folder, other.folder)
    assert one.summary["bits_per_dim"] == other.summary["bits_per_dim"]


def test_stages_differ_in_the_order_of_their_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[torch.Tensor] = []

    def note(module: FlowTraining, batch: torch.Tensor, batch_idx: int) -> None:
        batches.append(batch.clone())

    monkeypatch.setattr(FlowTraining, "on_train_batch_start", note)
    run(staged([{"max_steps": 2}, {"max_steps": 2}]), tmp_path / "run")
    assert len(batches) == 4
    assert not torch.equal(batches[0], batches[2])


def test_averaged_weights_go_from_stage_to_stage(
    averaged: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, torch.Tensor]] = []

    def note(module: FlowTraining, batch: torch.Tensor, batch_idx: int) -> None:
        if module.steps == 9:
            begun.append({k: v.clone() for k, v in module.state_dict().items()})

    monkeypatch.setattr(FlowTraining, "on_train_batch_start", note)
    run(AVERAGED, tmp_path / "run")
    (start,) = begun
    between = checkpoint(RunFolder(averaged.folder).checkpoint("stage-0"))["state_dict"]
    assert all(torch.equal(start[key], between[key]) for key in between)
    plain = run(staged([{**MATCHING, "max_steps": 9}]), tmp_path / "plain")
    last = checkpoint(RunFolder(plain.folder).last_checkpoint)["state_dict"]
    assert not any(torch.equal(between[key], last[key]) for key in between)


def test_a_stage_builds_the_objective_that_it_names() -> None:
    paths = {"coupling": "minibatch-ot", "times": "logit-normal"}
    first, second = staged([{**MATCHING, **paths}, {"epochs": 1}]).train.stages
    assert build_objective(first) == FlowMatching("minibatch-ot", "logit-normal")
    assert build_objective(second) == Likelihood()


def test_stages_are_completed_from_the_training_table() -> None:
    stages = staged([MATCHING, {}], epochs=7, schedule="cosine", warmup_steps=3).train.stages
    assert [(s.max_steps, s.epochs) for s in stages] == [(FIRST, None), (None, 7)]
    assert [s.learning_rate for s in stages] == [1e-2, 2e-2]
    assert [(s.schedule, s.warmup_steps) for s in stages] == 2 * [("cosine", 3)]


REFUSED = [
    ({"stage": [{"coupling": "independent"}]}, {}, "stage.0.coupling", "draws no paths"),
    ({"stage": [{"times": "uniform"}]}, {}, "stage.0.times", "draws no paths"),
    ({"stage": [{"max_steps": 2}], "epochs": 3}, {}, "epochs", "says itself when it ends"),
    ({"stage": [{"epochs": 2}], "max_minutes": 3}, {}, "max_minutes", "says itself when it ends"),
    ({"stage": [{"max_minutes": 1, "schedule": "cosine"}]}, {}, "stage.0.schedule", "minutes do"),
    ({"stage": [{"max_minutes": 1}], "schedule": "cosine"}, {}, "schedule", "minutes do not say"),
    ({"max_minutes": 1, "schedule": "cosine"}, {}, "schedule", "minutes do not say"),
    ({"governor": {}}, {}, "train.governor", 'no solver has step = "auto"'),
    ({"stage": [MATCHING]}, {"step": "auto"}, "solver.step", "no stage solves"),
    ({"stage": [{"objective": "matching"}]}, {}, "stage.0.objective", "flow-matching"),
    ({}, {"eval": {"step": "auto"}}, "step", "number"),
    ({}, {"step": "auto", "rtol": 1e-3, "algorithm": "dopri5"}, "step", "not both"),
]


@pytest.mark.parametrize(("train", "solver", "key", "reason"), REFUSED)
def test_what_cannot_take_effect_is_refused(
    train: dict[str, Any], solver: dict[str, Any], key: str, reason: str
) -> None:
    table = {**TINY, "train": train, **({"solver": solver} if solver else {})}
    with pytest.raises(ValidationError) as refusal:
        Recipe.model_validate(table)
    # What depends on a wrong key has no default: the message to the user leaves that out.
    followed = "default_factory_not_called"
    (problem,) = (error for error in refusal.value.errors() if error["type"] != followed)
    place = ".".join(map(str, problem["loc"]))
    told = f"{place}.{problem.get('ctx', {}).get('key', '')} {problem['msg']}"
    assert key in told
    assert reason in told


@pytest.mark.parametrize(
    ("train", "step"),
    [
        ({"stage": STAGES}, "auto"),
        ({"stage": [MATCHING, {}]}, "auto"),
        ({"stage": [{**MATCHING, "coupling": "minibatch-ot"}], "learning_rate": 0.1}, 0.5),
        ({"governor": {"tolerance": 0.1}, "epochs": 2}, "auto"),
    ],
)
def test_the_resolved_recipe_is_the_same_recipe(
    train: dict[str, Any], step: str | float, tmp_path: Path
) -> None:
    table = {**TINY, "train": train, "solver": {"algorithm": "rk4", "step": step}}
    recipe = Recipe.model_validate(table)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_to_toml(recipe))
    assert load_recipe(path) == recipe
    assert load_recipe(path).train.stages == recipe.train.stages
