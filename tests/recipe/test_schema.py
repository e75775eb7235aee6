"""The schema's defaults, rules and inheritance of single scales."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from rnode_dyn.recipe.schema import (
    DivergenceRecipe,
    EvalSolverRecipe,
    FieldRecipe,
    ModelRecipe,
    Recipe,
    ScaleRecipe,
    SolverRecipe,
    TrainRecipe,
)


def recipe_with(**tables) -> Recipe:
    return Recipe.model_validate({"name": "x", "data": {"dataset": "fake"}, **tables})


def test_a_recipe_needs_only_a_name_and_a_data_set():
    recipe = recipe_with()
    assert (recipe.solver.algorithm, recipe.solver.step) == ("rk4", 0.25)
    assert (recipe.solver.eval.algorithm, recipe.solver.eval.rtol) == ("dopri5", 1e-5)
    assert (recipe.divergence.noise, recipe.divergence.probes) == ("gaussian", 1)
    assert recipe.divergence.eval is None
    assert recipe.train.epochs == 100
    assert recipe.model.scale == ()


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        recipe_with().seed = 3


def test_a_whole_number_may_stand_for_a_number():
    assert recipe_with(regularizers={"kinetic_energy": 1}).regularizers.kinetic_energy == 1.0


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        ({}, ("rk4", 0.25, None, None, None)),
        ({"sensitivity": "discrete"}, ("rk4", 0.25, None, None, None)),
        ({"step": 0.5}, ("rk4", 0.5, None, None, None)),
        ({"algorithm": "dopri5"}, ("dopri5", None, 1e-5, 10_000, "rms")),
        ({"algorithm": "dopri5", "step": 0.1}, ("dopri5", 0.1, None, None, None)),
        ({"algorithm": "bosh3", "rtol": 1e-3}, ("bosh3", None, 1e-3, 10_000, "rms")),
    ],
)
def test_steps_are_fixed_or_adaptive(solver, expected):
    made = SolverRecipe(**solver)
    assert (made.algorithm, made.step, made.rtol, made.max_steps, made.norm) == expected
    assert made.adaptive is (made.step is None)


@pytest.mark.parametrize(
    "algorithm", ["euler", "midpoint", "heun", "rk4", "rk38", "ralston4", "ssprk54"]
)
@pytest.mark.parametrize("solver", [SolverRecipe, EvalSolverRecipe])
def test_an_algorithm_without_error_estimate_needs_a_step(solver, algorithm):
    with pytest.raises(ValidationError, match=f"{algorithm} has no error estimate"):
        solver(algorithm=algorithm)
    assert not solver(algorithm=algorithm, step=0.1).adaptive


@pytest.mark.parametrize(
    "algorithm", ["adaptive_heun", "bosh3", "dopri5", "tsit5", "dopri8", "bs5", "vern7", "vern9"]
)
@pytest.mark.parametrize("solver", [SolverRecipe, EvalSolverRecipe])
def test_an_algorithm_with_error_estimate_needs_none(solver, algorithm):
    assert solver(algorithm=algorithm).adaptive


def test_checkpoints_belong_to_one_sensitivity():
    assert SolverRecipe().checkpoint_every == 1
    assert SolverRecipe(sensitivity="backsolve").checkpoint_every is None
    with pytest.raises(ValidationError, match="backsolve stores no checkpoints"):
        SolverRecipe(sensitivity="backsolve", checkpoint_every=2)


@pytest.mark.parametrize("given", [{"noise": "gaussian"}, {"probes": 1}])
def test_the_exact_divergence_draws_nothing(given):
    exact = DivergenceRecipe(estimator="exact")
    assert (exact.noise, exact.probes) == (None, None)
    with pytest.raises(ValidationError, match="draws no random probes"):
        DivergenceRecipe(estimator="exact", **given)


@pytest.mark.parametrize(
    ("train", "epochs"),
    [({}, 100), ({"max_steps": 5}, None), ({"max_minutes": 1}, None), ({"epochs": 3}, 3)],
)
def test_training_ends(train, epochs):
    assert TrainRecipe(**train).epochs == epochs


def test_blocks_after_a_squeeze_are_as_many_as_before():
    assert ScaleRecipe(blocks=3, squeeze=True).blocks_after == 3
    assert ScaleRecipe(blocks=3, squeeze=True, blocks_after=1).blocks_after == 1
    assert ScaleRecipe(blocks=3).blocks_after is None


def test_without_scale_tables_every_scale_is_the_recipes_own():
    recipe = recipe_with(model={"scales": "auto", "blocks": 2})
    own = (recipe.model.field, recipe.solver, recipe.divergence, recipe.regularizers)
    assert recipe.for_scale(0) == recipe.for_scale(3) == own


def test_a_scale_overrides_only_the_keys_it_says():
    recipe = recipe_with(
        model={
            "field": {"hidden": [8], "activation": "tanh"},
            "scale": [
                {"field": {"hidden": [4, 4]}, "regularizers": {"kinetic_energy": 0.5}},
                {"divergence": {"estimator": "exact"}, "solver": {"eval": {"rtol": 1e-8}}},
            ],
        },
        solver={"algorithm": "midpoint", "step": 0.5, "eval": {"algorithm": "tsit5"}},
        divergence={"noise": "rademacher", "probes": 2},
        regularizers={"jacobian_frobenius": 0.1},
    )
    first, second = recipe.for_scale(0), recipe.for_scale(1)
    assert first.field == FieldRecipe(hidden=(4, 4), activation="tanh")
    assert first.regularizers.kinetic_energy == 0.5
    assert first.regularizers.jacobian_frobenius == 0.1
    assert (first.solver, first.divergence) == (recipe.solver, recipe.divergence)
    assert (second.divergence.estimator, second.divergence.noise) == ("exact", None)
    assert (second.solver.algorithm, second.solver.step) == ("midpoint", 0.5)
    assert (second.solver.eval.algorithm, second.solver.eval.rtol) == ("tsit5", 1e-8)


def test_a_scale_may_go_from_fixed_to_adaptive_steps():
    recipe = recipe_with(
        model={"scale": [{"solver": {"rtol": 1e-6}}]}, solver={"algorithm": "dopri5", "step": 0.1}
    )
    solver = recipe.for_scale(0).solver
    assert (solver.algorithm, solver.step, solver.rtol) == ("dopri5", None, 1e-6)


def test_scales_made_of_objects_inherit_too():
    scale = ScaleRecipe(solver=SolverRecipe(step=0.5))
    recipe = recipe_with(
        model=ModelRecipe(scale=(scale,)), solver=SolverRecipe(step=0.1, checkpoint_every=4)
    )
    assert recipe.for_scale(0).solver.step == 0.5
    assert recipe.solver.checkpoint_every == 4


def test_the_schema_needs_no_torch():
    """The recipe floor is checked before anything heavy is imported."""
    code = (
        "import sys, types; package = types.ModuleType('rnode_dyn');"
        "package.__path__ = ['rnode_dyn']; sys.modules['rnode_dyn'] = package;"
        "import rnode_dyn.recipe.load; sys.exit('torch' in sys.modules)"
    )
    root = __file__.rpartition("tests")[0]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
