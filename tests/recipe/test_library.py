"""Every recipe that comes with the package: whole, built as the paper has it, plain when unfed."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rnode_dyn import Recipe, build_model, load_recipe
from rnode_dyn.cli import app
from rnode_dyn.costs.architecture import describe_model
from rnode_dyn.recipe import list_recipes
from rnode_dyn.recipe.load import recipe_to_toml

NAMES = [entry.name for entry in list_recipes()]

STEPS = {
    "mnist": ["torchvision.datasets.MNIST", "download=True"],
    "cifar10": ["torchvision.datasets.CIFAR10", "download=True"],
    "svhn": ["torchvision.datasets.SVHN", "download=True"],
    "celeba": ["img_align_celeba.zip", "list_eval_partition.txt"],
    "celebahq": ["CelebAMask-HQ.zip"],
    "imagenet64": ["image-net.org", "train_data_batch_1.npz"],
    "npy": ["numpy.save", "data.npy"],
    "picture": ["set root to one", "china.jpg"],
}
UNFED = [name for name in NAMES if load_recipe(name).data.dataset in STEPS]

# Counted in the authors' own models: scales, continuous blocks, parameters, latent shapes.
SMALL = (3, 10, 800_636, [[2, 14, 14], [4, 7, 7], [4, 7, 7]])
CIFAR = (4, 14, 1_358_868, [[6, 16, 16], [12, 8, 8], [24, 4, 4], [24, 4, 4]])
SIDE_64 = (5, 18, 1_996_116, [[6, 32, 32], [12, 16, 16], [24, 8, 8], [48, 4, 4], [48, 4, 4]])
SIDE_256 = (
    7, 26, 4_609_236,
    [[6, 128, 128], [12, 64, 64], [24, 32, 32], [48, 16, 16], [96, 8, 8], [192, 4, 4], [192, 4, 4]],
)  # fmt: skip
PAPERS = {
    "mnist": SMALL,
    "mnist-ffjord": SMALL,
    "ablation/none": SMALL,
    "ablation/kinetic": SMALL,
    "ablation/jacobian": SMALL,
    "ablation/both": SMALL,
    "cifar10": CIFAR,
    "cifar10-ffjord": CIFAR,
    "svhn": CIFAR,
    "imagenet64": SIDE_64,
    "celeba64": SIDE_64,
    "celebahq256": SIDE_256,
}
WEIGHTS = {
    "mnist-ffjord": (0, 0),
    "cifar10-ffjord": (0, 0),
    "ablation/none": (0, 0),
    "ablation/kinetic": (0.01, 0),
    "ablation/jacobian": (0, 0.01),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_loads_builds_and_is_written_back(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no data here
    recipe = load_recipe(name)
    assert recipe.title
    assert build_model(recipe).blocks
    assert Recipe.model_validate(tomllib.loads(recipe_to_toml(recipe))) == recipe


def test_runs_of_recipes_are_told_apart() -> None:
    names = [load_recipe(name).name for name in NAMES]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "/" in name]  # a run's folder is named after it


@pytest.mark.parametrize(("name", "figures"), PAPERS.items())
def test_the_papers_models_are_the_authors_without_their_data(
    name: str, figures: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = describe_model(build_model(load_recipe(name)))
    keys = ("scales", "continuous_blocks", "parameters", "latent_shapes")
    assert tuple(shown[key] for key in keys) == figures


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_penalties(name: str) -> None:
    weights = load_recipe(name).regularizers
    expected = WEIGHTS.get(name, (0.01, 0.01))
    assert (weights.kinetic_energy, weights.jacobian_frobenius) == expected


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "levels", "alpha", "flips"),
    [
        ("mnist", 100, 200, 256, 1e-5, False),
        ("cifar10", 100, 200, 256, 0.05, True),
        ("imagenet64", 4, 50, 256, 0.05, False),
        ("celebahq256", 16, 3, 32, 0.05, True),
    ],
)
def test_the_authors_settings(
    name: str, epochs: int, batch: int, levels: int, alpha: float, flips: bool
) -> None:
    recipe = load_recipe(name)
    data, train, solver = recipe.data, recipe.train, recipe.solver
    assert (train.epochs, train.learning_rate, train.warmup_steps) == (epochs, 1e-3, 1000)
    assert (data.batch_size, data.levels, data.flips) == (batch, levels, flips)
    assert recipe.model.logit_alpha == alpha
    if name == "mnist":
        assert (solver.algorithm, solver.step) == ("rk38", 0.25)
    else:
        assert (solver.algorithm, solver.rtol, solver.atol) == ("dopri5", 1e-5, 1e-5)
        assert solver.first_step == 1 / 6
    assert (solver.eval.algorithm, solver.eval.rtol) == ("dopri5", 1e-5)


@pytest.mark.parametrize("name", UNFED)
def test_missing_data_exits_2_with_the_steps(name: str, tmp_path: Path) -> None:
    root, output = tmp_path / "none", tmp_path / "run"
    arguments = ["run", name, "--set", f"data.root={root}", "--output", str(output)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    assert not output.exists()
    for fragment in [*STEPS[load_recipe(name).data.dataset], str(root), "set root"]:
        assert fragment in result.stderr


@pytest.mark.parametrize("name", UNFED)
def test_published_sizes_are_stated(name: str) -> None:
    data = load_recipe(name).data
    if data.dataset != "picture":
        assert all((data.train_size, data.validation_size, data.test_size))


class TestAnotherDataSet:
    def test_a_folder_in_place_of_celeba(self) -> None:
        data = load_recipe("celeba64", ["data.dataset=folder", "data.root=x"]).data
        assert (data.image_size, data.levels, data.flips, data.eval_batch_size) == (
            64, 32, True, 100
        )  # fmt: skip
        assert (data.train_size, data.validation_size, data.test_size) == (None, None, None)
        assert data.checksums == {}

    @pytest.mark.parametrize("name", UNFED)
    def test_random_images_in_place_of_any(self, name: str) -> None:
        assert load_recipe(name, ["data.dataset=fake"]).data.variant is None

    def test_the_same_data_set_keeps_its_keys(self) -> None:
        stated = load_recipe("celeba64").data
        again = load_recipe("celeba64", ["data.dataset=celeba"]).data
        assert again == stated

    def test_what_is_said_beside_it_holds(self) -> None:
        overrides = ["data.dataset=folder", "data.train_size=7", "data.channels=1"]
        data = load_recipe("celeba64", overrides).data
        assert (data.train_size, data.channels, data.test_size) == (7, 1, None)

    def test_checksums_are_replaced_as_a_whole(self) -> None:
        assert load_recipe("mnist", ["data.checksums={}"]).data.checksums == {}
        data = load_recipe("mnist", ['data.checksums={"a.b" = "md5:0"}']).data
        assert data.checksums == {"a.b": "md5:0"}
