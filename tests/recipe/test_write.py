"""A recipe written as TOML is the same recipe when it is loaded again."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rnode_dyn.recipe.load import load_recipe, recipe_to_toml
from rnode_dyn.recipe.naming import fault_in
from rnode_dyn.recipe.schema import Recipe

positive = st.floats(min_value=1e-9, max_value=1e3)
counts = st.integers(min_value=1, max_value=50)
weights = st.floats(min_value=0, max_value=10)


def tables(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables that give some of `keys`, or none."""
    return st.fixed_dictionaries({}, optional=keys)


fixed = st.fixed_dictionaries(
    {"algorithm": st.sampled_from(["euler", "rk4", "dopri5"]), "step": positive}
)
adaptive = st.fixed_dictionaries(
    {"algorithm": st.sampled_from(["tsit5", "dopri8", "bosh3"])},
    optional={"rtol": positive, "first_step": positive, "norm": st.sampled_from(["rms", "max"])},
)
stepping = st.one_of(fixed, adaptive)
checkpoints = st.one_of(
    st.just({"sensitivity": "interpolating"}),
    st.fixed_dictionaries({"sensitivity": st.just("checkpointed"), "checkpoint_every": counts}),
)
solvers = st.builds(
    lambda steps, adjoint, evaluation: {**steps, **adjoint, **evaluation},
    stepping,
    checkpoints,
    tables(eval=stepping),
)
estimators = st.one_of(
    st.just({"estimator": "exact"}),
    st.fixed_dictionaries(
        {"estimator": st.just("hutchinson")},
        optional={"noise": st.sampled_from(["gaussian", "rademacher"]), "probes": counts},
    ),
)
divergences = st.builds(lambda own, inner: {**own, **inner}, estimators, tables(eval=estimators))
fields = tables(
    kind=st.sampled_from(["conv", "mlp"]), hidden=st.lists(counts, min_size=1, max_size=4)
)
ends = st.tuples(positive, positive).map(sorted).filter(lambda pair: pair[0] < pair[1])
penalties = tables(kinetic_energy=weights, total_derivative=weights, taylor_derivative=weights)
scales = tables(
    blocks=counts,
    squeeze=st.booleans(),
    field=fields,
    solver=solvers,
    divergence=divergences,
    regularizers=penalties,
)
models = st.one_of(
    st.fixed_dictionaries(
        {"scales": st.just("auto"), "blocks": counts}, optional={"field": fields}
    ),
    tables(scale=st.lists(scales, max_size=3), field=fields, end_time=positive | ends),
)
recipes = st.fixed_dictionaries(
    {
        "name": st.text(min_size=1, max_size=20).filter(lambda name: not fault_in(name)),
        "data": st.fixed_dictionaries({"dataset": st.sampled_from(["moons", "mnist"])}),
    },
    optional={
        "title": st.text(max_size=20),
        "model": models,
        "solver": solvers,
        "divergence": divergences,
        "regularizers": penalties,
        "train": tables(max_minutes=positive, devices=st.one_of(counts, st.just("auto"))),
        "samples": tables(every=counts),
    },
).map(Recipe.model_validate)


@given(recipes)
def test_writing_and_reading_gives_the_recipe_back(recipe: Recipe):
    assert Recipe.model_validate(tomllib.loads(recipe_to_toml(recipe))) == recipe


def test_a_written_file_loads(write):
    table = {"name": "ü", "data": {"dataset": "moons"}, "model": {"scale": [{"squeeze": True}]}}
    recipe = Recipe.model_validate(table)
    assert load_recipe(write(recipe_to_toml(recipe))) == recipe


def test_defaults_are_written():
    text = recipe_to_toml(Recipe.model_validate({"name": "x", "data": {"dataset": "moons"}}))
    written = tomllib.loads(text)
    assert written["solver"]["step"] == 0.25
    assert written["divergence"] == {"estimator": "hutchinson", "noise": "gaussian", "probes": 1}
    assert written["train"]["epochs"] == 100
