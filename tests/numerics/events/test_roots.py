"""The root finder: bracketed, just behind, and quick."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnode_dyn.numerics.events.roots import first_behind

FUNCTIONS = {
    "line": lambda s: 0.3 - s,
    "cubic": lambda s: (0.7 - s) ** 3,
    "flat": lambda s: np.sign(0.2 - s) * np.abs(0.2 - s) ** 9,
    "steep": lambda s: np.tanh(1e4 * (0.9 - s)),
    "jump": lambda s: np.where(s < 0.123456789, 1.0, -1.0),
    "from zero": lambda s: s * (0.5 - s),
}
ROOTS = {"line": 0.3, "cubic": 0.7, "flat": 0.2, "steep": 0.9, "jump": 0.123456789}
ROOTS["from zero"] = 0.5


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_root_is_bracketed(name) -> None:
    calls = []

    def value(theta: np.ndarray) -> np.ndarray:
        calls.append(theta)
        return FUNCTIONS[name](theta)

    tolerance = np.array([1e-12])
    (theta,) = first_behind(value, np.ones(1), FUNCTIONS[name](np.ones(1)), tolerance)
    assert FUNCTIONS[name](np.array([theta]))[0] <= 0
    # A ninth power is zero, in floats, for some way around its root.
    assert abs(theta - ROOTS[name]) < (1e-11 if name != "flat" else 1e-9)
    assert len(calls) <= 100


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=6))
def test_many_at_once(roots) -> None:
    wanted = np.array(roots)
    theta = first_behind(
        lambda s: s**3 - wanted**3,
        -np.ones(len(roots)),
        1 - wanted**3,
        np.full(len(roots), 1e-13),
    )
    np.testing.assert_allclose(theta, wanted, atol=1e-11)
