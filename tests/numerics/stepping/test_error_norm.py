"""What adaptive steps look at: which samples, which entries, and what stays out of it."""

import math

import pytest
import torch
from torch import Tensor

from rnode_dyn import AdaptiveStep, Dopri5, ODEProblem, Solver, solve
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.stepping.error_norm import max_norm, named_norm, rms_norm, worst_sample
from tests.numerics.cases import EMBEDDED, FORWARD, SENSITIVITIES, Field, float64

TOLERANCE = 1e-6


def turning(speeds: Tensor) -> Field:
    """Each sample turns in its plane at a speed of its own."""

    def field(t: Tensor, x: Tensor) -> Tensor:
        place, velocity = x.unbind(-1)
        return speeds[:, None] * torch.stack([velocity, -place], -1)

    return field


def end_of(speeds: list[float], norm: str, algorithm: ExplicitRungeKutta) -> Tensor:
    x0 = float64([[1.0, 0.0]]).repeat(len(speeds), 1)
    problem = ODEProblem(turning(float64(speeds)), x0, FORWARD)
    return solve(problem, Solver(algorithm, AdaptiveStep(TOLERANCE, TOLERANCE, norm=norm))).x[-1]


def turned(speed: float) -> Tensor:
    return float64([math.cos(speed), -math.sin(speed)])


@pytest.mark.parametrize("algorithm", EMBEDDED[1:], ids=str)
def test_with_max_the_hard_sample_is_right_in_any_company(algorithm: ExplicitRungeKutta) -> None:
    alone = end_of([20.0], "max", algorithm)[0]
    in_company = end_of([20.0] + 255 * [0.01], "max", algorithm)[0]
    assert float((alone - turned(20.0)).abs().max()) < 100 * TOLERANCE
    assert float((in_company - alone).abs().max()) < TOLERANCE


@pytest.mark.parametrize("algorithm", EMBEDDED[1:], ids=str)
def test_with_rms_the_crowd_outvotes_it(algorithm: ExplicitRungeKutta) -> None:
    """Which is why there is "max"."""
    exact = turned(20.0)
    alone = end_of([20.0], "rms", algorithm)[0] - exact
    outvoted = end_of([20.0] + 255 * [0.01], "rms", algorithm)[0] - exact
    assert float(outvoted.abs().max()) > 3 * float(alone.abs().max())


@pytest.mark.parametrize("norm", ["rms", "max"])
@pytest.mark.parametrize("algorithm", EMBEDDED[1:], ids=str)
def test_a_pathological_neighbour_does_no_harm(algorithm: ExplicitRungeKutta, norm: str) -> None:
    alone = end_of([2.0], norm, algorithm)[0]
    beside = end_of([2.0, 60.0], norm, algorithm)[0]
    assert float((alone - turned(2.0)).abs().max()) < 10 * TOLERANCE
    assert float((beside - turned(2.0)).abs().max()) < 10 * TOLERANCE


def wild_channel(t: Tensor, x: Tensor) -> Tensor:
    """A gentle first entry, and a second that oscillates wildly and depends on nothing."""
    return torch.stack([-x[..., 0], 1e4 * torch.cos(1e4 * t) + 0 * x[..., 1]], -1)


def gentle(t: Tensor, x: Tensor) -> Tensor:
    return -x


@pytest.mark.parametrize("norm", ["rms", "max"])
@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_a_masked_channel_takes_no_part(algorithm: ExplicitRungeKutta, norm: str) -> None:
    """Steps and states are those of a solve that never heard of it."""
    solver = Solver(algorithm, AdaptiveStep(1e-4, 1e-4, norm=norm))
    x0 = float64([[1.0, 0.0], [0.5, 0.0]])
    mask = torch.tensor([True, False])
    masked = solve(ODEProblem(wild_channel, x0, FORWARD, error_mask=mask), solver)
    without = solve(ODEProblem(gentle, x0[:, :1], FORWARD), solver)
    assert masked.stats == without.stats
    assert torch.equal(masked.x[..., :1], without.x)


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
def test_a_masked_channel_takes_no_part_in_the_backward_solve(sensitivity: Sensitivity) -> None:
    x0 = float64([[1.0, 0.0], [0.5, 0.0]]).requires_grad_()
    problem = ODEProblem(wild_channel, x0, FORWARD, error_mask=torch.tensor([True, False]))
    solution = solve(problem, Solver(Dopri5(), AdaptiveStep(1e-6, 1e-6), sensitivity))
    solution.x[-1].sum().backward()
    wanted = float64([[math.exp(-1), 1.0]]).expand_as(x0)
    assert torch.allclose(x0.grad, wanted, rtol=1e-4)
    assert solution.stats.nfe_backward < 200


def test_a_masked_channel_must_still_be_finite() -> None:
    """Out of error control is not out of mind."""

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([-x[..., 0], torch.where(t > 0.5, math.nan, x[..., 1])], -1)

    problem = ODEProblem(
        field, float64([[1.0, 1.0]]), FORWARD, error_mask=torch.tensor([True, False])
    )
    with pytest.raises(RuntimeError, match="not finite"):
        solve(problem)


def test_norms_by_hand() -> None:
    scaled = float64([[3.0, 4.0], [0.0, 0.0]])
    assert float(rms_norm(scaled)) == pytest.approx(2.5)
    assert float(max_norm(scaled)) == pytest.approx(12.5**0.5)
    second = torch.tensor([False, True])
    assert float(named_norm("rms", second)(scaled)) == pytest.approx(8**0.5)
    assert float(named_norm("max", second)(scaled)) == pytest.approx(4.0)


def test_the_worst_sample_is_the_one_without_numbers_before_the_largest() -> None:
    scaled = float64([[1.0, 2.0], [1e9, -1e12], [0.0, math.nan], [1.0, 1.0]])
    assert worst_sample(scaled) == 2
    assert worst_sample(scaled[:2]) == 1


@pytest.mark.parametrize("norm", ["rms", "max"])
def test_the_error_is_that_of_one_sample_where_all_are_alike(norm: str) -> None:
    """Batching copies changes nothing but the last digit."""
    one = end_of([3.0], norm, Dopri5())
    assert torch.allclose(end_of([3.0] * 7, norm, Dopri5()), one.expand(7, 2), rtol=1e-12)
