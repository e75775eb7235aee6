"""Conditional recipes: from the data's labels or columns to a run, its scores and its samples."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rnode_dyn import RecipeError, build_model, load_data, load_recipe, load_run, run
from rnode_dyn.cli.app import app
from rnode_dyn.data.errors import DataError
from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.paired import Batch
from rnode_dyn.flows.conditions import takes_condition

SMALL = ["train.max_steps=2", "data.train_size=64", "data.validation_size=20", "data.test_size=20"]
SIZES = ["data.train_size=64", "data.validation_size=10", "data.test_size=20"]
SMALL += ["model.field.hidden=[8]", "data.batch_size=16", "data.eval_batch_size=16"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = load_recipe("digits-labelled", [*SMALL, "samples.count=20"])
    return run(recipe, tmp_path_factory.mktemp("labelled")).folder


@pytest.fixture(scope="module")
def columned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columned")
    table = np.random.default_rng(0).normal([0, 0, 1e4, 5], [1, 2, 0.5, 1], (200, 4))
    np.save(folder / "data.npy", table)
    recipe = load_recipe(
        "two-moons", ["train.stage.0.epochs=1", *SMALL[4:], *SIZES, f"data.root={folder}"]
    )
    return run(recipe, folder / "run").folder


def command(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


def told(output: str) -> dict:
    """The JSON behind what a command has announced."""
    return json.loads(output[output.index("{") :])


def test_labels_go_with_their_images() -> None:
    data = FlowDataModule(load_data("digits", condition="label"), batch_size=32, flips=True)
    plain = FlowDataModule(load_data("digits"), batch_size=32, flips=True)
    batch, alone = next(iter(data.train_dataloader())), next(iter(plain.train_dataloader()))
    assert isinstance(batch, Batch)
    assert torch.equal(batch.samples, alone)
    splits = load_data("digits", condition="label")
    for image, label in zip(batch.samples, batch.condition, strict=True):
        either = torch.stack([image, image.flip(-1)])
        found = (splits.train[:][:, None] == either).flatten(2).all(2).any(1)
        assert label in splits.conditions.train[found]


def test_columns_are_parted(tmp_path: Path) -> None:
    table = np.arange(80.0).reshape(20, 4)
    np.save(tmp_path / "data.npy", table)
    splits = load_data("npy", root=tmp_path, condition_columns=[2, 0], standardize=True)
    assert splits.event_shape == (2,)
    np.testing.assert_array_equal(splits.train[:], table[:17][:, [1, 3]])
    np.testing.assert_array_equal(splits.conditions.train, table[:17][:, [2, 0]])
    np.testing.assert_allclose(splits.conditions.scaling.shift, table[:17][:, [2, 0]].mean(0))


@pytest.mark.parametrize(
    ("columns", "words"),
    [([4], "column 4"), ([1, 1], "twice"), ([0, 1, 2, 3], "leaves none")],
)
def test_columns_that_cannot_be_are_refused(tmp_path: Path, columns: list, words: str) -> None:
    np.save(tmp_path / "data.npy", np.arange(80.0).reshape(20, 4))
    with pytest.raises(DataError, match=words):
        load_data("npy", root=tmp_path, condition_columns=columns)


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("checkerboard", "data.condition=label", "has no labels"),
        ("moons", "data.condition_columns=[0]", "is no table"),
        ("moons", "model.condition.embedding=3", "no condition to embed"),
        ("moons", "data.condition=which", "label"),
    ],
)
def test_recipes_that_cannot_be_are_refused(name: str, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(name, [override])


def test_the_model_is_built_for_the_condition() -> None:
    model = build_model(load_recipe("digits-labelled"))
    assert takes_condition(model)
    assert model.blocks[0].field.embedding.width == 16
    assert not takes_condition(build_model(load_recipe("quickstart")))


def test_a_labelled_run_draws_a_row_a_class(labelled: Path) -> None:
    assert (labelled / "samples" / "samples.png").exists()
    code, output = command("sample", str(labelled), "-n", "20", "--json")
    assert code == 0, output
    assert "condition" not in told(output)
    code, output = command("sample", str(labelled), "-n", "4", "--condition", "3", "--json")
    assert code == 0, output
    assert "-given-3-" in told(output)["file"]
    assert command("evaluate", str(labelled), "--limit", "8")[0] == 0


@pytest.mark.parametrize("condition", ["10", "-1", "x", "0.5"])
def test_a_label_that_is_none_is_refused(labelled: Path, condition: str) -> None:
    code, output = command("sample", str(labelled), f"--condition={condition}")
    assert code == 2
    assert "from 0 to 9" in output


def test_a_run_on_columns_is_sampled_under_numbers(columned: Path) -> None:
    code, output = command("sample", str(columned), "-n", "5", "--condition=9999.5,5", "--json")
    assert code == 0, output
    assert np.load(told(output)["file"]).shape == (5, 2)
    for words in ([], ["--condition", "1"], ["--condition", "a,b"]):
        assert command("sample", str(columned), *words)[0] == 2


def test_conditions_are_standardised_with_the_flow(columned: Path) -> None:
    flow = load_run(columned).flow
    np.testing.assert_allclose(flow.preprocess_condition.shift, [1e4, 5], rtol=0.05)
    assert flow.preprocess_condition.scale[0] < 1
