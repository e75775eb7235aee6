"""`show` and `recipes`: every recipe, and what it costs."""

import json
from pathlib import Path

import numpy as np
import pytest

from rnode_dyn.recipe.load import RecipeEntry, list_recipes, load_recipe
from tests.cli.calling import call, words_of


def test_every_recipe_is_listed() -> None:
    names = {entry.name for entry in list_recipes()}
    assert {row["name"] for row in json.loads(call("recipes", "--json").stdout)} == names
    listed = call("recipes").stdout
    assert [name for name in names if name not in listed] == []


@pytest.mark.one_in(2)
@pytest.mark.parametrize("entry", list_recipes(), ids=lambda entry: entry.name)
def test_every_recipe_is_shown(entry: RecipeEntry) -> None:
    shown = json.loads(call("show", entry.name, "--json").stdout)
    assert shown["parameters"] > 0
    assert shown["continuous_blocks"] >= shown["scales"] >= 1


def test_show_draws_the_multiscale_tree() -> None:
    # The 1×28×28 model of the paper, with random images in place of MNIST.
    sets = ["data.dataset=fake", "data.channels=1", "data.image_size=28", "model.scales=auto",
            "model.blocks=2", "model.field.kind=conv", "model.field.hidden=[64,64,64]"]  # fmt: skip
    arguments = [part for text in sets for part in ("--set", text)]
    output = call("show", "quickstart", *arguments).stdout
    assert "800,636 parameters" in output
    assert output.count("squeeze") == output.count("leaves") == 2
    figures = json.loads(call("show", "quickstart", *arguments, "--json").stdout)
    assert figures["parameters"] == 800_636
    assert figures["latent_shapes"] == [[2, 14, 14], [4, 7, 7], [4, 7, 7]]
    assert (figures["scales"], figures["continuous_blocks"]) == (3, 10)
    assert figures["evaluations_per_forward"] == 160


def shown(*arguments: object) -> dict:
    return json.loads(call("show", *arguments, "--json").stdout)


def test_show_says_what_training_costs() -> None:
    figures = shown("mnist")
    assert figures["train_size"] == 55_000
    # A forward pass is 160 evaluations, most of each in four convolutions of 64 channels to 64,
    # two of the field and two of its vector-Jacobian product.
    (first, *_), inner = figures["blocks"], 4 * 2 * 9 * 64 * 64 * 28 * 28
    assert inner < first["flops"] < 1.1 * inner
    assert figures["flops_per_image_forward"] == pytest.approx(
        sum(16 * block["flops"] for block in figures["blocks"])
    )
    assert figures["flops_per_epoch"] == pytest.approx(
        55_000 * figures["flops_per_image_step"], rel=1e-6
    )
    assert figures["memory_per_batch_bytes"] == pytest.approx(
        200 * figures["memory_per_image_bytes"], rel=1e-6
    )
    assert figures["hours_per_epoch"] is None


def test_show_turns_a_stated_rate_into_hours() -> None:
    figures = shown("mnist", "--flops", "1e13")
    assert figures["hours_per_epoch"] == pytest.approx(figures["flops_per_epoch"] / 1e13 / 3600)
    assert figures["flops_per_second_source"] == "as --flops states"
    assert "as --flops states" in call("show", "mnist", "--flops", "1e13").stdout


def test_show_measures_here() -> None:
    figures = shown("moons", "--measure")
    assert figures["flops_per_second"] > 0
    assert figures["hours_per_epoch"] > 0
    assert "measured here" in figures["flops_per_second_source"]


def test_show_says_what_it_assumes_of_adaptive_steps() -> None:
    adaptive = ("moons", "--set", "solver.algorithm=dopri5", "--set", "solver.rtol=1e-5")
    output = words_of(call("show", *adaptive).stdout)
    assert "assumed: 25 evaluations in a block whose steps the training chooses" in output
    usual, longer = shown(*adaptive), shown(*adaptive, "--evaluations", 49)
    assert usual["evaluations_per_forward"] is longer["evaluations_per_forward"] is None
    assert [f["blocks"][0]["evaluations"] for f in (usual, longer)] == [25, 49]
    assert usual["evaluations_assumed"] is True


def test_show_knows_the_stages_and_who_chooses_their_steps() -> None:
    figures = shown("mnist14-warm")
    assert figures["evaluations_per_forward"] is None
    assert figures["evaluations_assumed"] is True
    first, last = figures["stages"]
    recipe = load_recipe("mnist14-warm")
    assert (first["objective"], last["objective"]) == ("flow-matching", "likelihood")
    assert [s["batch_size"] for s in (first, last)] == [
        stage.batch_size or recipe.data.batch_size for stage in recipe.train.stages
    ]
    assert figures["batch_size"] == last["batch_size"]
    assert last["flops_per_image_step"] == figures["flops_per_image_step"]
    assert 10 * first["flops_per_image_step"] < last["flops_per_image_step"]
    output = words_of(call("show", "mnist14-warm").stdout)
    assert "RK4, auto steps" in output
    assert "stage 1 of 2: flow-matching for " in output
    more = shown("mnist14-warm", "--evaluations", 40)
    assert {block["evaluations"] for block in more["blocks"]} == {40}


def test_show_says_how_long_each_stage_takes() -> None:
    slow = ("mnist14-unet", "--flops", "1e9", "--evaluations", 40)
    first, last = shown(*slow)["stages"]
    for stage in (first, last):
        images = stage["max_steps"] * stage["batch_size"]
        expected = images * stage["flops_per_image_step"] / 1e9 / 3600
        assert stage["hours"] == pytest.approx(expected)
    assert f"an image, {first['hours']:.3g} h in all" in words_of(call("show", *slow).stdout)
    minute = ("--set", "train.stage.0.max_minutes=1")
    assert shown(*slow, *minute)["stages"][0]["hours"] == pytest.approx(1 / 60)
    assert shown("mnist14-unet")["stages"][0]["hours"] is None


def test_show_knows_that_it_does_not_know_the_size_of_a_file(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        np.save(tmp_path / f"{split}.npy", np.zeros((20, 2), dtype=np.float32))
    sets = ("--set", "data.dataset=npy", "--set", f"data.root={tmp_path}")
    assert shown("moons", *sets)["train_size"] is None
    output = call("show", "moons", *sets, "--flops", "1e9").stdout
    assert "1,000 images" in output
    assert "not known without reading" in words_of(output)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--flops", "1e9", "--measure"], "drop one"),
        (["--flops", "-1"], "positive number"),
        (["--flops", "nan"], "positive number"),
        (["--evaluations", "30"], "all blocks take fixed"),
        (["--evaluations", "0"], "Invalid value for '--evaluations'"),
    ],
)
def test_options_of_show_without_effect_are_refused(options: list[str], says: str) -> None:
    result = call("show", "quickstart", *options)
    assert (result.exit_code, says in words_of(result.stderr)) == (2, True)
