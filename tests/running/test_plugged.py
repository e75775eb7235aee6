"""Optimizers, loggers and callbacks of a recipe's and a caller's own; what cannot be is refused."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from rnode_dyn import Recipe, RecipeError, load_recipe, run
from rnode_dyn.recipe.load import recipe_from_toml, recipe_to_toml
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import read_record
from rnode_dyn.training.loop.optimizers import OptimizerSettings
from tests.tiny import TINY, tiny, weights

SEEN: list[tuple[int, str]] = []


class Watch(pl.Callback):
    """A callback that a recipe can name."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        SEEN.append((pl_module.past.stage, type(trainer.optimizers[0]).__name__))


class Needs(pl.Callback):
    def __init__(self, what: str) -> None:
        self.what = what


class Halved(torch.optim.SGD):
    """An optimizer that a recipe can name, with a key of its own."""

    def __init__(self, params: Any, lr: float, share: float = 0.5) -> None:
        super().__init__(params, lr * share)


class Told(Logger):
    """Remembers what it is told."""

    name, version = "told", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.params: dict[str, Any] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self.params = params


def one_step(**train: object) -> Recipe:
    return tiny(**{"epochs": None, "max_steps": 1, **train})


def test_a_logger_is_told_what_the_csv_is_over_all_stages(tmp_path: Path) -> None:
    told, matching = Told(), {"objective": "flow-matching", "epochs": 1}
    recipe = tiny(stage=[matching, {}], epochs=1)
    run(recipe, tmp_path / "run", logger=told)
    table = read_record(RunFolder(tmp_path / "run")).metrics
    assert [step for step, _ in told.rows] == [row["step"] for row in table]
    assert [row["stage"] for _, row in told.rows] == [row["stage"] for row in table]
    assert told.params["data"]["dataset"] == "digits"


def test_tensorboard_has_the_figures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed: pip install -e '.[tensorboard]'",
    )
    run(tiny(logger="tensorboard", epochs=1), tmp_path / "run")
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    held_out = events.Scalars("validation/bits_per_dim")
    (best,) = read_record(RunFolder(tmp_path / "run")).held_out
    assert [(e.step, e.value) for e in held_out] == [(best.step, pytest.approx(best.bits))]


def test_callbacks_of_both_kinds_see_every_stage(tmp_path: Path) -> None:
    SEEN.clear()
    recipe = tiny(
        stage=[{"objective": "flow-matching", "max_steps": 1}, {"max_steps": 1}],
        epochs=None,
        callbacks=["tests.running.test_plugged:Watch"],
        optimizer={"name": "sgd", "momentum": 0.9},
    )
    run(recipe, tmp_path / "run", callbacks=[Watch(), ModelCheckpoint(tmp_path / "own")])
    assert SEEN == [(0, "SGD"), (0, "SGD"), (1, "SGD"), (1, "SGD")]
    assert list((tmp_path / "own").iterdir())
    assert recipe_from_toml(recipe_to_toml(recipe), "a.toml") == recipe


def test_a_class_of_ones_own_steps(tmp_path: Path) -> None:
    own = {"name": "tests.running.test_plugged:Halved", "share": 0.25}
    run(one_step(optimizer=own, learning_rate=0.4), tmp_path / "own")
    run(one_step(optimizer="sgd", learning_rate=0.1), tmp_path / "plain")
    one, other = weights(tmp_path / "own"), weights(tmp_path / "plain")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adamw_is_what_steps_where_nothing_is_said() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    settings = OptimizerSettings(weight_decay=0.3)
    optimizer = settings.build(parameters)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["weight_decay"] == 0.3


@pytest.mark.parametrize("warmup", [0, 16])
def test_the_inverse_root_begins_where_the_warm_up_ends(warmup: int) -> None:
    settings = OptimizerSettings(warmup_steps=warmup, schedule="inverse-sqrt")
    start = max(1, warmup)
    assert settings.factor(start - 1, math.inf) == 1.0
    assert settings.factor(4 * start - 1, math.inf) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("given", "key", "says"),
    [
        ({"optimizer": "agd"}, "train.optimizer.name", "did you mean asgd?"),
        ({"optimizer": {"momentum": 0.9}}, "train.optimizer.name", "this key is required"),
        ({"optimizer": {"name": "sgd", "lr": 1.0}}, "train.optimizer.lr", "train.learning_rate"),
        ({"optimizer": "my code:Mine"}, "train.optimizer.name", "write package.module:Class"),
        ({"optimizer": "sgd", "weight_decay": 0.1}, "train.weight_decay", "[train.optimizer]"),
        ({"logger": "tensorbord"}, "train.logger.kind", "did you mean tensorboard?"),
        ({"callbacks": ["Watch"]}, "train.callbacks.0", "write package.module:Class"),
        (
            {"schedule": "linear", "epochs": None, "max_minutes": 1.0},
            "train.schedule",
            "minutes do not say at which step a linear ends",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_when_it_is_read(given: dict, key: str, says: str) -> None:
    table = {**TINY, "train": {**TINY["train"], **given}}
    text = recipe_to_toml_of(table)
    with pytest.raises(RecipeError) as refused:
        recipe_from_toml(text, "a.toml")
    assert refused.value.key == key
    assert says in str(refused.value)


def recipe_to_toml_of(table: dict[str, Any]) -> str:
    import tomli_w

    train = {key: value for key, value in table["train"].items() if value is not None}
    return tomli_w.dumps({**table, "train": train})


@pytest.mark.parametrize(
    ("given", "key", "says"),
    [
        ({"optimizer": {"name": "sgd", "momentun": 0.9}}, "train.optimizer", "'momentun'"),
        ({"optimizer": {"name": "sgd", "momentum": -1.0}}, "train.optimizer", "momentum"),
        ({"optimizer": "nowhere.at_all:Mine"}, "train.optimizer.name", "cannot be imported"),
        ({"optimizer": "pathlib:Path"}, "train.optimizer.name", "no subclass of torch.optim"),
        ({"callbacks": ["nowhere:Watch"]}, "train.callbacks.0", "No module named 'nowhere'"),
        ({"callbacks": ["pathlib:Path"]}, "train.callbacks.0", "is no subclass of"),
        (
            {"callbacks": ["tests.running.test_plugged:Needs"]},
            "train.callbacks.0",
            "cannot be made without arguments",
        ),
        ({"logger": {"kind": "tensorboard", "logdir": "x"}}, "train.logger.logdir", "save_dir"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_written(
    given: dict, key: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as refused:
        run(tiny(**given), tmp_path / "run")
    assert refused.value.key == key
    assert says in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_refused_with_what_installs_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnode_dyn.training.loop.loggers.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=rf"pip install 'rnode-dyn\[{kind}\]'"):
        run(tiny(logger=kind), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_callback_or_logger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no Callback of Lightning"):
        run(tiny(), tmp_path / "run", callbacks=[print])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="no Logger of Lightning"):
        run(tiny(), tmp_path / "run", logger="tensorboard")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_modules_of_the_working_folder_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_own_code.py").write_text("from torch.optim import SGD as Mine\n")
    run(one_step(optimizer="my_own_code:Mine"), tmp_path / "run")
    assert load_recipe(tmp_path / "run" / "recipe.toml").train.optimizer is not None


def test_a_given_tensorboard_logger_writes_where_it_says(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(one_step(), tmp_path / "run", logger=[TensorBoardLogger(tmp_path / "tb")])
    assert list((tmp_path / "tb").rglob("events.out.tfevents.*"))
