"""Models built from recipes: the paper's to the last parameter, and what does not fit refused."""

import math
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    ErrorEstimate,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    LogitTransform,
    Recipe,
    RecipeError,
    ReversibleAdjoint,
    Shift,
    Solver,
    Stiffness,
    TaylorDerivative,
    ThreeBells,
    TrajectoryPolynomial,
    Uniform,
    build_model,
    load_recipe,
)
from rnode_dyn.costs.architecture import describe_model
from rnode_dyn.data import Event
from rnode_dyn.recipe.build import ALGORITHMS
from rnode_dyn.recipe.names import COMPARES_STAGES, FIXED_ALGORITHMS, AlgorithmName


def recipe(**tables: dict) -> Recipe:
    given = {"data": {"dataset": "fake", "channels": 1, "image_size": 8}, **tables}
    return Recipe.model_validate({"name": "x", **given})


def image_recipe(channels: int, side: int) -> Recipe:
    return recipe(
        data={"dataset": "fake", "channels": channels, "image_size": side},
        model={"logit_alpha": 0.05, "scales": "auto", "blocks": 2},
    )


# Counted in the authors' own models.
AUTHORS = {
    (1, 28): (3, 10, 800_636, [[2, 14, 14], [4, 7, 7], [4, 7, 7]]),
    (3, 32): (4, 14, 1_358_868, [[6, 16, 16], [12, 8, 8], [24, 4, 4], [24, 4, 4]]),
    (3, 64): (5, 18, 1_996_116, [[6, 32, 32], [12, 16, 16], [24, 8, 8], [48, 4, 4], [48, 4, 4]]),
    (3, 256): (7, 26, 4_609_236, None),
}


@pytest.mark.parametrize(("image", "figures"), AUTHORS.items(), ids=str)
def test_the_papers_models_agree_with_the_authors(
    image: tuple[int, int], figures: tuple[int, int, int, list | None]
) -> None:
    scales, blocks, parameters, latents = figures
    described = describe_model(build_model(image_recipe(*image)))
    assert described["scales"] == scales
    assert described["continuous_blocks"] == blocks
    assert described["parameters"] == parameters
    assert described["evaluations_per_forward"] == 16 * blocks
    if latents is None:
        assert described["latent_shapes"][-2:] == [[192, 4, 4], [192, 4, 4]]
    else:
        assert described["latent_shapes"] == latents
    assert sum(map(math.prod, described["latent_shapes"])) == image[0] * image[1] ** 2


def test_every_algorithm_of_the_schema_can_be_built() -> None:
    assert set(ALGORITHMS) == set(get_args(AlgorithmName))
    for name, kind in ALGORITHMS.items():
        assert (kind().embedded_order is None) == (name in FIXED_ALGORITHMS)


def test_every_sample_steps_by_itself_where_the_recipe_says_so() -> None:
    solver = {"sensitivity": "discrete", "eval": {"per_sample": True}}
    block = build_model(recipe(solver=solver)).blocks[0]
    assert block.eval_solver is not None
    assert block.eval_solver.stepping == AdaptiveStep(1e-5, 1e-5, per_sample=True)


def test_solver_and_divergence_are_as_the_recipe_says() -> None:
    block = build_model(
        recipe(
            solver={"algorithm": "rk4", "step": 0.1, "checkpoint_every": 3,
                    "eval": {"rtol": 1e-7, "norm": "max", "max_steps": 50, "first_step": 0.2}},
            divergence={"noise": "rademacher", "probes": 2, "eval": {"estimator": "exact"}},
        )
    ).blocks[0]  # fmt: skip
    assert block.solver.algorithm == RK4()
    assert block.solver.stepping == FixedStep(0.1)
    assert block.solver.sensitivity == CheckpointedAdjoint(3)
    assert block.eval_solver is not None
    assert block.eval_solver.algorithm == Dopri5()
    assert block.eval_solver.stepping == AdaptiveStep(1e-7, 1e-5, 0.2, 50, "max")
    assert block.divergence == HutchinsonDivergence("rademacher", 2)
    assert block.eval_divergence == ExactDivergence()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("discrete", DiscreteAdjoint()),
        ("checkpointed", CheckpointedAdjoint()),
        ("backsolve", BacksolveAdjoint()),
        ("interpolating", InterpolatingAdjoint()),
        ("reversible", ReversibleAdjoint()),
    ],
)
def test_sensitivities_are_as_the_recipe_says(name: str, kind: object) -> None:
    assert build_model(recipe(solver={"sensitivity": name})).blocks[0].solver.sensitivity == kind


@pytest.mark.parametrize(("alpha", "steps"), [(None, []), (0.0, [Shift]), (0.05, [LogitTransform])])
def test_the_transform_is_as_the_recipe_says(alpha: float | None, steps: list[type]) -> None:
    model = {} if alpha is None else {"logit_alpha": alpha}
    assert [type(step) for step in build_model(recipe(model=model)).preprocess.steps] == steps


def test_bells_take_the_place_of_the_logit() -> None:
    (step,) = build_model(recipe(model={"bells": [1, 3]})).preprocess.steps
    assert isinstance(step, ThreeBells)
    assert (step.dark, step.bright) == (1 / 256, 3 / 256)
    bells = load_recipe("mnist-unet", ["model.bells=[1, 4]"]).model
    assert (bells.logit_alpha, bells.bells) == (None, (1, 4))


@pytest.mark.parametrize(
    "model", [{"bells": [1, 300]}, {"bells": [1, 1], "logit_alpha": 0.1}], ids=str
)
def test_bells_that_leave_nothing_or_stand_beside_a_logit_are_refused(
    model: dict[str, object],
) -> None:
    with pytest.raises((RecipeError, ValidationError), match=r"(?s)bells.*say"):
        build_model(recipe(model=model))


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"bells": [1, 4]}, {}),
        ({"logit_alpha": 0.05}, {}),
        ({}, {"dequantization": "variational"}),
    ],
    ids=str,
)
def test_what_is_for_pixels_is_refused_beside_standardised_columns(model: dict, data: dict) -> None:
    table = {"dataset": "npy", "standardize": True, **data}
    given = recipe(data=table, model={**model, "field": {"kind": "mlp"}})
    with pytest.raises(RecipeError, match=f"{next(iter(model | data))}.*npy has continuous"):
        build_model(given, Event((3,)))


def test_bells_of_16_bits_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"model\.bells.*say bf16-mixed or 32-true"):
        build_model(recipe(model={"bells": [1, 4]}, train={"precision": "bf16-true"}))


def test_scales_have_their_own_parts() -> None:
    scales = [
        {"blocks": 1, "squeeze": True, "split": True, "field": {"hidden": [5]}},
        {"blocks": 1, "solver": {"step": 0.5}, "regularizers": {"kinetic_energy": 0.7}},
    ]
    model = build_model(recipe(model={"scale": scales}, regularizers={"kinetic_energy": 0.1}))
    first, _, last = model.blocks
    assert first.field.layers[0].weight.shape[0] == 5  # type: ignore[union-attr]
    assert (first.solver.stepping, last.solver.stepping) == (FixedStep(0.25), FixedStep(0.5))
    assert [block.regularizers[0].weight for block in (first, last)] == [0.1, 0.7]
    assert model.latent_shapes == [(2, 4, 4), (2, 4, 4)]
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(model.inverse(model(x).z).z, x, atol=1e-5)


def test_every_penalty_is_built_as_the_recipe_says() -> None:
    weights = {
        "taylor_derivative": 0.1,
        "taylor_order": 2,
        "error_estimate": 100.0,
        "stiffness": 0.01,
        "trajectory_polynomial": 5.0,
        "trajectory_degree": 2,
    }
    given = recipe(
        solver={"algorithm": "dopri5", "step": 0.25},
        regularizers=weights,
        model={"end_time": [0.75, 1.25]},
    )
    (block,) = build_model(given).blocks
    assert block.regularizers[2:] == (
        TaylorDerivative(0.1, order=2),
        ErrorEstimate(100.0),
        Stiffness(0.01),
        TrajectoryPolynomial(5.0, degree=2),
    )
    assert (block.end, block.end_time) == (Uniform(0.75, 1.25), 1.0)
    figures = describe_model(build_model(given))
    assert figures["penalties"] == [
        {k: weights[k] for k in weights if not k.endswith(("order", "degree"))}
    ]
    assert figures["end_times"] == [[0.75, 1.25]]


def test_the_names_of_those_that_compare_stages_are_the_algorithms_that_do() -> None:
    def is_taken(name: str) -> bool:
        solver = Solver(ALGORITHMS[name](), FixedStep(0.5))
        try:
            Stiffness(1.0).check_solver(solver)
        except ValueError:
            return False
        return True

    assert {name for name in ALGORITHMS if is_taken(name)} == set(COMPARES_STAGES)


MISFITS = {
    "squeezed too often": (
        {"model": {"scale": [{"squeeze": True}] * 4}},
        "model.scale.3",
        ["scale 3", "(64, 1, 1)", "cannot be squeezed"],
    ),
    "split of an odd number": (
        {"model": {"scale": [{"split": True}, {}]}},
        "model.scale.0",
        ["(1, 8, 8)", "cannot be split", "squeeze = true"],
    ),
    "scales of vectors": (
        {"data": {"dataset": "moons"}, "model": {"scales": "auto", "field": {"kind": "mlp"}}},
        "model.scales",
        ["is for images", "(2,)"],
    ),
    "convolutions of vectors": (
        {"data": {"dataset": "moons"}},
        "model.scales",
        ['field kind "conv" takes images', 'model.field.kind = "mlp"'],
    ),
    "logit of continuous data": (
        {"data": {"dataset": "moons"}, "model": {"logit_alpha": 0.1, "field": {"kind": "mlp"}}},
        "model.logit_alpha",
        ["continuous values", "drop it"],
    ),
}


@pytest.mark.parametrize(("tables", "key", "says"), MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_is_refused(tables: dict, key: str, says: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        build_model(recipe(**tables))
    assert caught.value.key == key
    for fragment in says:
        assert fragment in str(caught.value)
