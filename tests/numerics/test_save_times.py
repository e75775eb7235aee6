"""Times are compared within the rounding of the type they came in."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rnode_dyn import ODEProblem, solve
from rnode_dyn.numerics.save_times import save_times

ENDS = st.floats(-2, 2, allow_nan=False).filter(lambda t: abs(t) > 1e-3)


@given(ENDS, ENDS, st.integers(2, 9), st.sampled_from([torch.float32, torch.float64]))
def test_a_linspace_of_any_span_lies_within_it(
    t0: float, t1: float, count: int, dtype: torch.dtype
) -> None:
    if abs(t1 - t0) < 1e-2:
        return
    times = save_times((t0, t1), torch.linspace(t0, t1, count, dtype=dtype).unbind())
    assert times[0] == t0
    assert times[-1] == t1


@pytest.mark.parametrize(
    "given", [[0.5, 1.001], np.array([0.5, 1.001]), torch.tensor([0.5, 1.001])], ids=type
)
def test_a_time_outside_is_refused(given: object) -> None:
    problem = ODEProblem(lambda t, x: -x, torch.ones(1, 1), (0.0, 1.0))
    with pytest.raises(ValueError, match="outside the time span"):
        solve(problem, save_at=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["0.5", 0.5, torch.tensor(0.5), np.ones((2, 2)), [None], [1j]])
def test_what_is_no_list_of_times_is_refused(given: object) -> None:
    problem = ODEProblem(lambda t, x: -x, torch.ones(1, 1), (0.0, 1.0))
    with pytest.raises(TypeError, match="write a list of times"):
        solve(problem, save_at=given)  # type: ignore[arg-type]


def test_a_span_written_in_float32_takes_times_written_in_float64() -> None:
    def decay(t: Tensor, x: Tensor) -> Tensor:
        return -x

    problem = ODEProblem(decay, torch.ones(1, 1), (np.float32(0.1), np.float32(0.7)))
    assert len(solve(problem, save_at=[0.1, 0.4, 0.7]).x) == 3
