"""The scikit-learn estimator: its interface, its densities, and that it is an estimator at all."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from rnode_dyn import FlowDensity

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
