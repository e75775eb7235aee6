"""Recipes of flow matching: which choices go together, and what is built of them."""

from typing import Any

import pytest
from torch import nn

from rnode_dyn import FlowMatching, Muon, load_recipe
from rnode_dyn.recipe.build import build_model
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.training.loop.optimizers import check_optimizer, optimizer_settings
from rnode_dyn.training.loop.stages import build_objective


def refusal(*overrides: str, recipe: str = "mnist-unet") -> str:
    with pytest.raises(RecipeError) as caught:
        check_optimizer(load_recipe(recipe, list(overrides)), nn.Linear(8, 8).parameters())
    return str(caught.value)


def test_the_package_matches_for_the_likelihood() -> None:
    recipe = load_recipe("mnist-unet")
    first = recipe.train.stages[0]
    assert build_objective(first) == FlowMatching(
        times="near-data", weighting="likelihood", targets="expected"
    )
    assert optimizer_settings(recipe, first).kind is Muon


def test_left_out_errors_are_even_and_velocities_drawn() -> None:
    recipe = load_recipe("quickstart-warm")
    assert build_objective(recipe.train.stages[0]) == FlowMatching(
        times=recipe.train.stages[0].times or "stratified"
    )


@pytest.mark.parametrize(
    ("overrides", "key", "says"),
    [
        (["train.stage.0.targets=mean"], "train.stage.0.targets", "expected"),
        (
            ["train.stage.0.weighting=likelyhood"],
            "train.stage.0.weighting",
            "did you mean likelihood",
        ),
        (["train.stage.0.times=logit-normal"], "train.stage.0.weighting", "near-data"),
        (
            ["train.stage.0.coupling=minibatch-ot"],
            "train.stage.0.weighting",
            'weighting = "even"',
        ),
        (
            ["train.stage.0.coupling=minibatch-ot", "train.stage.0.weighting=even"],
            "train.stage.0.targets",
            'targets = "drawn"',
        ),
        (["model.logit_alpha=1e-5"], "train.stage.0.targets", "model.bells"),
        (["data.dequantization=variational"], "train.stage.0.targets", "learned noise"),
        (["train.stage.1.weighting=even"], "train.stage.1.weighting", "draws no paths"),
        (["train.stage.1.targets=drawn"], "train.stage.1.targets", "draws no paths"),
        (["model.field.kind=conv", "model.field.skip=true"], "model.field.skip", "no such key"),
        (["model.end_time=2.0"], "model.field.skip", "end_time = 1.0"),
        (["model.end_time=[0.5, 1.5]"], "model.field.skip", "end_time = 1.0"),
        (["model.blocks=2"], "model.field.skip", "blocks = 1"),
        (["train.optimizer.betas=[0.9]"], "train.optimizer", "write two"),
    ],
)
def test_choices_that_do_not_go_together(overrides: list[str], key: str, says: str) -> None:
    message = refusal(*overrides)
    assert key in message
    assert says in message


def test_a_stage_that_becomes_the_likelihoods_drops_them() -> None:
    stages = load_recipe("mnist-unet", ["train.stage.0.objective=likelihood"]).train.stages
    assert stages[0].weighting is None
    assert stages[0].targets is None


@pytest.mark.parametrize("skip", [False, True])
def test_a_skip_is_built(skip: bool) -> None:
    recipe = load_recipe("mnist14-unet", [f"model.field.skip={str(skip).lower()}"])
    field: Any = next(iter(build_model(recipe).blocks)).field
    assert field.skip is skip
