"""The command: every subcommand, as text and as JSON, and every way to get it wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from rnode_dyn import NonFiniteStateError, RunResult, SolverError
from rnode_dyn.cli import app
from rnode_dyn.recipe.load import RecipeEntry, list_recipes, load_recipe

GOOD = """
name = "good"
[data]
dataset = "digits"
train_size = 64
validation_size = 20
test_size = 20
batch_size = 32
[model]
logit_alpha = 0.01
[model.field]
kind = "mlp"
hidden = [8]
[train]
max_steps = 2
[samples]
count = 4
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def words_of(text: str) -> str:
    """What is said, without the frame around it and the ends of lines."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return path


def test_run_prints_a_table_and_the_folder(recipe: Path, tmp_path: Path) -> None:
    result = call("run", recipe, "--output", tmp_path / "run")
    assert result.exit_code == 0
    assert "bits per dim" in result.stdout
    assert f"run folder: {tmp_path / 'run'}" in result.stdout
    assert "step 2" in result.stderr  # plain lines, since this is no terminal


def test_run_prints_json_alone(recipe: Path, tmp_path: Path) -> None:
    result = call("run", recipe, "--output", tmp_path / "run", "--set", "seed=9", "--json")
    printed = json.loads(result.stdout)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert printed == {"run": str(tmp_path / "run"), **summary}
    assert printed["seed"] == 9


def test_evaluate_repeats_the_summary(finished: RunResult) -> None:
    printed = json.loads(call("evaluate", finished.folder, "--seed", 3, "--json").stdout)
    assert printed["bits_per_dim"] == pytest.approx(finished.summary["bits_per_dim"])
    assert (printed["samples"], printed["checkpoint"]) == (60, "best")
    assert [block["rejected"] >= 0 for block in printed["blocks"]] == [True]


def test_evaluate_shows_what_each_block_cost(finished: RunResult) -> None:
    output = call("evaluate", finished.folder, "--split", "validation").stdout
    assert "evaluations" in output
    assert "1×8×8" in output


def test_evaluate_says_how_it_measured(finished: RunResult) -> None:
    output = words_of(call("evaluate", finished.folder, "--limit", 7).stdout)
    for words in (
        "the first 7 of the 60 of the test split",
        "17, uniform dequantization",
        "Hutchinson, rademacher noise, 1 probe",
        "Dopri5, rtol 1e-05, atol 1e-05",
        "no likelihood of the pixels",
        "nats",
        "reconstruction error",
    ):
        assert words in output


def test_evaluate_leaves_the_bins_centres_out(finished: RunResult) -> None:
    both = call("evaluate", finished.folder, "--json")
    one = call("evaluate", finished.folder, "--no-bin-centre", "--json")
    both_figures, figures = json.loads(both.stdout), json.loads(one.stdout)
    assert figures["bits_per_dim_bin_centre"] is None
    assert figures["bits_per_dim"] == both_figures["bits_per_dim"]


def test_training_and_evaluate_measure_alike(finished: RunResult) -> None:
    printed = json.loads(call("evaluate", finished.folder, "--seed", 3, "--json").stdout)
    assert {name: printed[name] for name in finished.summary if name in printed} == {
        name: value for name, value in finished.summary.items() if name in printed
    }
    assert printed["protocol"]["seed"] == finished.summary["protocol"]["seed"] == 3


def test_exact_scores_without_noise_of_the_trace(finished: RunResult) -> None:
    arguments = ("evaluate", finished.folder, "--limit", 5, "--exact", "--json")
    one, two = (json.loads(call(*arguments, "--seed", seed).stdout) for seed in (1, 2))
    assert one["protocol"]["divergences"] == ["exact trace"]
    assert one["samples"] == 5
    centre = "bits_per_dim_bin_centre"
    assert one[centre] == pytest.approx(two[centre], abs=1e-6)
    assert one["bits_per_dim"] != two["bits_per_dim"]


def test_evaluate_measures_as_it_is_told(finished: RunResult) -> None:
    told = ("solver.eval.algorithm=rk4", "solver.eval.step=0.5", "data.test_size=20")
    options = [option for override in told for option in ("--set", override)]
    printed = json.loads(call("evaluate", finished.folder, *options, "--json").stdout)
    assert printed["protocol"]["solvers"] == ["RK4, step 0.5"]
    assert printed["nfe_forward"] == 8
    assert (printed["samples"], printed["protocol"]["split_samples"]) == (20, 20)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs=3", "--set train.epochs=3 says nothing about measuring a trained flow"),
        ("solver.step=0.5", "write a key of [data], [solver.eval] or [divergence.eval]"),
        ("solver.eval.rtoll=1e-3", "did you mean solver.eval.rtol?"),
        ("solver.eval", "not an override"),
    ],
)
def test_evaluate_is_not_told_what_it_does_not_measure(
    override: str, says: str, finished: RunResult
) -> None:
    result = call("evaluate", finished.folder, "--set", override)
    assert (result.exit_code, says in words_of(result.stderr)) == (2, True)


def test_more_samples_than_there_are_is_refused(finished: RunResult) -> None:
    result = call("evaluate", finished.folder, "--limit", 61)
    assert (result.exit_code, "the test split has 60" in words_of(result.stderr)) == (
        2,
        True,
    )


def test_sample_draws_a_picture_of_so_many(finished: RunResult, tmp_path: Path) -> None:
    path = tmp_path / "new" / "grid.png"
    printed = json.loads(
        call("sample", finished.folder, "-n", 9, "--temperature", 0.5, "--output", path, "--json")
        .stdout
    )  # fmt: skip
    assert printed == {"file": str(path), "count": 9, "temperatures": [0.5], "seed": 0}
    assert path.read_bytes().startswith(b"\x89PNG")


def test_samples_at_several_temperatures_are_panels_of_one_picture(
    finished: RunResult, tmp_path: Path
) -> None:
    widths = []
    for temperatures in ([0.5], [0.5, 1.0], []):
        options = [part for t in temperatures for part in ("--temperature", t)]
        path = tmp_path / "grid.png"
        call("sample", finished.folder, "-n", 4, *options, "--output", path)
        widths.append(Image.open(path).width)
    # Beside the data one panel, two, or those of the recipe's own four temperatures.
    panel = widths[1] - widths[0]
    assert widths == [widths[0], widths[0] + panel, widths[0] + 3 * panel]


def test_without_the_data_there_are_samples_all_the_same(
    finished: RunResult, copied: Path, tmp_path: Path
) -> None:
    run_path = tmp_path / "run"
    shutil.copytree(finished.folder, run_path)
    recipe = (run_path / "recipe.toml").read_text()
    changes = 'dataset = "mnist"\nimage_size = 8\nlevels = 17\nroot = "gone"'
    recipe = recipe.replace('dataset = "digits"', changes).replace('root = "data"\n', "")
    (run_path / "recipe.toml").write_text(recipe)
    result = call("sample", run_path, "-n", 4, "--temperature", 1)
    assert (result.exit_code, "no panel of real images: mnist" in result.stderr) == (0, True)
    with_data = call("sample", copied, "-n", 4, "--temperature", 1)
    assert "no panel" not in with_data.stderr
    narrow, wide = (
        Image.open(folder / "samples" / "samples-4-t1.png").width for folder in (run_path, copied)
    )
    assert narrow < wide


def test_strip_shows_a_row_for_each_sample(copied: Path) -> None:
    printed = json.loads(call("sample", copied, "--strip", "-n", 3, "--json").stdout)
    assert printed["file"].endswith("strip-3-t1.png")
    assert (printed["count"], printed["temperatures"]) == (3, [1.0])
    assert Image.open(printed["file"]).height > 3 * 64


@pytest.mark.parametrize("name", ["grid", "grid.txt"])
def test_a_picture_needs_a_pictures_name(finished: RunResult, name: str, tmp_path: Path) -> None:
    result = call("sample", finished.folder, "--output", tmp_path / name)
    assert (result.exit_code, "must end in .png" in result.stderr) == (2, True)
    assert not (tmp_path / name).exists()


def test_a_folder_below_a_file_is_refused(recipe: Path) -> None:
    result = call("run", recipe, "--output", recipe / "run")
    assert (result.exit_code, str(recipe) in result.stderr) == (2, True)


def test_sample_of_vectors_is_a_npy_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = ["train.max_steps=1", "data.train_size=256", "data.test_size=64"]
    sets = [part for override in overrides for part in ("--set", override)]
    assert call("run", "moons", *sets, "--output", folder).exit_code == 0
    assert (folder / "samples" / "plane.png").is_file()
    call("sample", folder, "-n", 5)
    assert np.load(folder / "samples" / "samples-5-t1.npy").shape == (5, 2)
    several = call("sample", folder, "--temperature", 1, "--temperature", 0.5)
    strip = call("sample", folder, "--strip")
    binned = call("evaluate", folder, "--no-bin-centre")
    assert [several.exit_code, strip.exit_code, binned.exit_code] == [2, 2, 2]
    assert "these data have no bins" in words_of(binned.stderr)
    assert "one --temperature" in words_of(several.stderr)
    assert "this flow's samples are none" in words_of(strip.stderr)


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


def test_report_prints_tables_and_draws(
    finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = shutil.copytree(finished.folder, tmp_path / "other")
    (other / "report.html").unlink()
    result = call("report", finished.folder, other)
    assert result.exit_code == 0
    assert result.stdout.startswith("| run | bits/dim |")
    assert "| tiny (other) |" in result.stdout
    assert "times as fast" in result.stdout
    assert (other / "report.html").is_file()
    assert (tmp_path / "report" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert f"written: {other / 'report.html'}" in result.stderr


def test_report_of_one_run_draws_into_its_folder(finished: RunResult, tmp_path: Path) -> None:
    run_path = shutil.copytree(finished.folder, tmp_path / "run")
    printed = json.loads(call("report", run_path, "--x", "steps", "--json").stdout)
    assert printed["curves"] == str(run_path / "curves.png")
    assert printed["reached"] is None
    assert printed["runs"][0]["summary"] == finished.summary
    elsewhere = call("report", run_path, "--output", tmp_path / "new" / "deep", "--json").stdout
    assert Path(json.loads(elsewhere)["curves"]).parent == tmp_path / "new" / "deep"


def test_report_refuses_what_has_no_effect(finished: RunResult, tmp_path: Path) -> None:
    run_path = shutil.copytree(finished.folder, tmp_path / "run")
    twice = call("report", run_path, tmp_path / "." / "run")
    assert (twice.exit_code, "given twice" in words_of(twice.stderr)) == (2, True)
    (run_path / "metrics.csv").unlink()
    nothing = call("report", run_path, "--output", tmp_path / "new")
    assert (nothing.exit_code, "leave it out" in words_of(nothing.stderr)) == (2, True)
    assert not (tmp_path / "new").exists()
    assert "no curve" in call("report", run_path).stderr


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


WRONG = {
    "unknown key": (["data.batchsize=3"], ["data.batchsize", "did you mean data.batch_size"]),
    "wrong type": (["data.batch_size=many"], ["data.batch_size", "'many'", "whole number"]),
    "unknown data set": (["data.dataset=digit"], ["data.dataset", "did you mean digits"]),
    "unknown algorithm": (["solver.algorithm=dopri4"], ["solver.algorithm", "did you mean dopri"]),
    "negative step": (["solver.step=-0.25"], ["solver.step", "-0.25"]),
    "image too small": (
        ["model.scale=[{blocks=1, squeeze=true}, {squeeze=true}, {squeeze=true}, {squeeze=true}]"],
        ["model.scale.3", "scale 3", "(64, 1, 1)", "cannot be squeezed"],
    ),
    "missing data": (["data.dataset=mnist", "data.root=nowhere"], ["nowhere", "MNIST"]),
    "conv on vectors": (
        ["data.dataset=moons", "model.logit_alpha=0", "model.field.kind=conv"],
        ["model.field.kind", "mlp"],
    ),
}


@pytest.mark.parametrize(("overrides", "says"), WRONG.values(), ids=WRONG.keys())
def test_wrong_recipes_exit_2_with_one_message(
    overrides: list[str], says: list[str], recipe: Path, tmp_path: Path
) -> None:
    sets = [part for text in overrides for part in ("--set", text)]
    result = call("run", recipe, *sets, "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in result.stderr
    for fragment in says:
        assert fragment in result.stderr


@pytest.mark.parametrize("command", ["run", "show"])
@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such recipe"), ("name = 1 2", "line 1"), ("name = 'x'\n", "data")],
)
def test_unusable_files_exit_2(
    command: str, content: str | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_text(content)
    result = call(command, path)
    assert (result.exit_code, says in result.stderr) == (2, True)
    assert str(path) in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "moons", "--resume", "somewhere"],
        ["run", "--resume", "nowhere"],
        ["evaluate", "nowhere"],
        ["evaluate", "nowhere", "--split", "half"],
        ["sample", "nowhere"],
        ["sample", "nowhere", "-n", "0"],
        ["sample", "nowhere", "--temperature", "-1"],
        ["sample", "nowhere", "--temperature", "nan"],
        ["sample", "nowhere", "--seed", "9" * 25],
        ["report"],
        ["report", "nowhere"],
        ["report", "nowhere", "--x", "epochs"],
        ["fly"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr


def broken_solve() -> SolverError:
    return NonFiniteStateError("it broke", t=0.5, dt=0.1, steps=3, nfe=12, worst_sample=7)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (broken_solve(), 1, "it broke (t = 0.5, dt = 0.1, 3 steps, 12 evaluations"),
    ],
)
def test_failures_have_their_exit_status(
    error: BaseException, code: int, says: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("rnode_dyn.running.runner.run", fail)
    result = call("run", recipe)
    assert (result.exit_code, says in result.stderr) == (code, True)
