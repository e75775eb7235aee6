"""The benchmark's Fréchet distance: that of Gaussians, and of nothing it has not seen."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import linalg


@pytest.fixture(name="frechet")
def _frechet(benchmark_named: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_named("frechet")


@pytest.mark.parametrize("count", [100, 10])
def test_it_is_the_formula_of_the_paper_even_of_few_samples(
    frechet: ModuleType, count: int
) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(count, 16)), 0.1 + 2 * rng.normal(size=(200, 16))
    first, second = np.cov(one.T), np.cov(other.T)
    common = linalg.sqrtm(first @ second).real
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(first + second - 2 * common)
    assert frechet.frechet_distance(one, other) == pytest.approx(expected, rel=1e-5)
    assert frechet.frechet_distance(one, one) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (torch.zeros(2, 1, 14, 14), "samples are 1×14×14"),
        (torch.zeros(2, 3, 28, 28), "samples are 3×28×28"),
        (torch.full((2, 1, 28, 28), torch.nan), "not finite"),
    ],
)
def test_samples_that_have_no_distance_are_refused(
    frechet: ModuleType, u: torch.Tensor, message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        frechet.check_like(u, 28)
