"""The scikit-learn estimator: its interface, its densities, and that it is an estimator at all."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from rnode_dyn import DataWarning, FlowDensity

SMALL = {"hidden": (8,), "epochs": 2, "steps": 2, "random_state": 0}


@parametrize_with_checks([FlowDensity(**SMALL)])
def test_it_is_an_estimator(estimator, check) -> None:
    check(estimator)


def rows(count: int = 300) -> np.ndarray:
    return np.random.default_rng(0).normal([5.0, -1e3], [0.1, 30.0], (count, 2))


@pytest.mark.parametrize("objective", ["flow-matching", "likelihood"])
def test_it_finds_a_gaussian(objective: str) -> None:
    small = {"epochs": 20, "batch_size": 100, "steps": 2, "random_state": 0}
    density = FlowDensity((16,), objective, **small).fit(rows())
    entropy = np.log(2 * np.pi * np.e) + np.log(0.1 * 30.0)
    assert abs(density.score(rows()) + entropy) < 0.15
    drawn = density.sample(500, random_state=0)
    assert (abs(drawn.mean(0) - rows().mean(0)) < [0.03, 9]).all()


def test_its_density_is_in_the_data_units() -> None:
    density = FlowDensity(**SMALL).fit(rows())
    scaled = FlowDensity(**SMALL).fit(10 * rows())
    np.testing.assert_allclose(
        scaled.score_samples(10 * rows()), density.score_samples(rows()) - 2 * np.log(10), atol=1e-3
    )


def test_a_seed_repeats_it() -> None:
    one, other = (FlowDensity(**SMALL).fit(rows()) for _ in range(2))
    np.testing.assert_array_equal(one.score_samples(rows()), other.score_samples(rows()))
    np.testing.assert_array_equal(one.sample(3, 1), other.sample(3, 1))


def test_it_stands_in_a_search_and_a_pipeline() -> None:
    search = GridSearchCV(FlowDensity(**SMALL), {"hidden": [(4,), (8,)]}, cv=2).fit(rows(40))
    assert search.best_params_["hidden"] in [(4,), (8,)]
    chain = make_pipeline(StandardScaler(), clone(FlowDensity(**SMALL))).fit(rows(40))
    assert np.isfinite(chain.score(rows(40)))


def test_an_objective_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match='write "flow-matching" or "likelihood"'):
        FlowDensity(objective="matching").fit(rows())


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"steps": 2.5},
        {"hidden": 8},
        {"hidden": (8, 0)},
        {"learning_rate": 0},
    ],
)
def test_parameters_that_are_none_are_refused_and_leave_the_fit(wrong: dict) -> None:
    density = FlowDensity(**SMALL).fit(rows(40))
    before = density.score(rows(40))
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(wrong))} is .*; write"):
        density.set_params(**wrong).fit(rows(40)[:, :1])
    assert density.score(rows(40)) == before


def test_a_fit_that_diverges_is_none() -> None:
    density = FlowDensity(**SMALL).fit(rows(40))
    with pytest.raises(ValueError, match="learning_rate=1e\\+30 diverges"):
        density.set_params(learning_rate=1e30, epochs=5).fit(rows(40)[:, :1])
    for score in (density.score, density.score_samples, lambda _: density.sample()):
        with pytest.raises(NotFittedError):
            score(rows(40))


def test_a_constant_column_is_told() -> None:
    with pytest.warns(DataWarning, match="column 1 .*no density"):
        FlowDensity(**SMALL).fit(rows(40) * [1, 0])


def test_no_samples_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="n_samples is 0"):
        FlowDensity(**SMALL).fit(rows(40)).sample(0)
