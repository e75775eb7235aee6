"""Pictures by the command: guidance, ways, halves drawn anew, and a bound that is named."""

import json
from pathlib import Path

import pytest
from PIL import Image

from rnode_dyn import run
from rnode_dyn.recipe.schema import Recipe
from tests.cli.calling import call, words_of
from tests.tiny import TINY

LABELLED = {
    "data": {**TINY["data"], "condition": "label", "dequantization": "variational"},
    "model": {**TINY["model"], "condition": {"dropout": 0.2}},
    "train": {"max_steps": 2},
}


def of(**tables: object) -> Recipe:
    return Recipe.model_validate({**TINY, "train": {"max_steps": 1}, **tables})


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(of(**LABELLED), tmp_path_factory.mktemp("labelled") / "run").folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(of(), tmp_path_factory.mktemp("plain") / "run").folder


def test_guided_samples_are_drawn_and_named(labelled: Path) -> None:
    asked = ("-n", 4, "--condition", 3, "--guidance", 2, "--temperature", 1, "--json")
    printed = json.loads(call("sample", labelled, *asked).stdout)
    assert printed["file"].endswith("samples-4-given-3-guided-2-t1.png")
    assert (printed["condition"], printed["guidance"]) == (3, 2.0)
    assert Image.open(printed["file"]).width > 0
    in_turns = call("sample", labelled, "-n", 20, "--guidance", 2, "--temperature", 1)
    assert "20 samples" in in_turns.stdout


@pytest.mark.parametrize(
    ("option", "rows"), [("--interpolate", 2), ("--inpaint=left", 2), ("--inpaint=top", 2)]
)
def test_other_pictures_have_a_row_for_each_sample(labelled: Path, option: str, rows: int) -> None:
    printed = json.loads(call("sample", labelled, option, "-n", rows, "--json").stdout)
    assert Image.open(printed["file"]).height > rows * 64
    assert printed["count"] == rows


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--guidance", 2], "this flow's samples have none: leave it out"),
        (["--strip", "--interpolate"], "--strip and --interpolate are different pictures"),
        (["--inpaint", "middle"], "'middle' is not one of"),
        (["--inpaint", "left", "--temperature", 0.5], "draws at temperature 1: leave it out"),
        (["--interpolate", "--temperature", 1, "--temperature", 2], "has one --temperature"),
    ],
)
def test_what_cannot_be_drawn_is_refused(plain: Path, options: list, says: str) -> None:
    result = call("sample", plain, *options)
    assert (result.exit_code, says in words_of(result.stderr)) == (2, True), result.stderr


@pytest.mark.parametrize("scale", ["-1", "nan"])
def test_a_scale_that_is_none_is_refused(labelled: Path, scale: str) -> None:
    result = call("sample", labelled, f"--guidance={scale}")
    assert (result.exit_code, "write 0 or more" in words_of(result.stderr)) == (2, True)


def test_guidance_takes_a_flow_trained_for_it(tmp_path: Path) -> None:
    tables = {**LABELLED, "model": TINY["model"]}
    folder = run(of(**tables), tmp_path / "run").folder
    result = call("sample", folder, "--guidance", 2)
    assert (result.exit_code, "model.condition.dropout = 0.1" in words_of(result.stderr)) == (
        2,
        True,
    )


def test_a_flow_of_several_blocks_is_not_inpainted(tmp_path: Path) -> None:
    folder = run(of(model={**TINY["model"], "blocks": 2}), tmp_path / "run").folder
    result = call("sample", folder, "--inpaint", "left")
    assert (result.exit_code, "scales = 1 and blocks = 1" in words_of(result.stderr)) == (2, True)


def test_the_bound_is_named_wherever_its_figure_is(labelled: Path, plain: Path) -> None:
    summary = json.loads((labelled / "summary.json").read_text())
    assert summary["dequantization"] == summary["protocol"]["dequantization"] == "variational"
    assert json.loads((plain / "summary.json").read_text())["dequantization"] == "uniform"
    told = call("evaluate", labelled).stdout
    assert "bits per dim, variational bound" in told
    assert "nats, variational bound" in told
    assert "variational dequantization" in told
    assert "bits per dim, uniform dequantized" in call("evaluate", plain).stdout
    assert ", a variational bound |" in call("report", labelled).stdout
    assert "a variational bound" not in call("report", plain).stdout
    assert "variational" in (labelled / "report.html").read_text()


def test_the_dequantization_of_a_trained_flow_stays(labelled: Path) -> None:
    result = call("evaluate", labelled, "--set", "data.dequantization=uniform")
    assert result.exit_code == 2
    assert "data.dequantization is part of the flow" in words_of(result.stderr)


WRONG = [
    ("moons", ["data.dequantization=variational"], "data.dequantization", "continuous values"),
    ("moons", ["data.dequantization=uniform"], "data.dequantization", "continuous values"),
    ("quickstart", ["data.dequantization=normal"], "data.dequantization", "uniform, variational"),
    ("quickstart", ["data.condition=label", "model.condition.dropout=1"], "dropout", "below 1"),
    ("quickstart", ["model.condition.dropout=0.1"], "model.condition", "have no condition"),
    ("mnist-unet", ["data.image_size=6"], "model.field.levels", "write 2 or fewer"),
    ("mnist-unet", ["model.field.width=21"], "model.field.width", "say 24"),
]


@pytest.mark.parametrize(("recipe", "sets", "key", "says"), WRONG)
def test_recipes_are_refused_by_key(recipe: str, sets: list[str], key: str, says: str) -> None:
    result = call("show", recipe, *[part for text in sets for part in ("--set", text)])
    said = words_of(result.stderr)
    assert (result.exit_code, key in said, says in said) == (2, True, True), said


@pytest.mark.parametrize("label", ["10", "-1", "3.5", "three"])
def test_a_label_outside_the_classes_is_refused(labelled: Path, label: str) -> None:
    result = call("sample", labelled, f"--condition={label}")
    assert (result.exit_code, "from 0 to 9" in words_of(result.stderr)) == (2, True)


def test_show_tells_the_hours_of_the_whole_run() -> None:
    asked = ("quickstart-warm", "--flops", "1e9", "--json")
    figures = json.loads(call("show", *asked).stdout)
    hours = figures["run_hours"]
    assert hours["training"] == pytest.approx(sum(s["hours"] for s in figures["stages"]))
    assert hours["all"] == pytest.approx(sum(v for k, v in hours.items() if k != "all"))
    assert figures["blocks"][0]["evaluations"] == 24  # the governor's six steps
    halved = json.loads(call("show", *asked, "--set", "data.test_size=150").stdout)["run_hours"]
    assert hours["test"] == pytest.approx(2 * halved["test"])
    assert "the whole run: " in call("show", *asked[:-1]).stdout
