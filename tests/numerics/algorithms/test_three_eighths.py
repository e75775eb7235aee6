"""The 3/8 rule is Kutta's, and the one that torchdiffeq, and so the paper's code, calls rk4."""

import pytest
import torch
import torchdiffeq

from rnode_dyn import RK4, RK38, FixedStep, ODEProblem, Solver, solve
from rnode_dyn.recipe.build import ALGORITHMS
from tests.numerics.cases import FORWARD, REVERSED, SmallField, Span, float64

START = float64([[0.5, -0.3], [0.2, 0.9]])


@pytest.mark.parametrize("h", [0.3, -0.3])
def test_one_step_is_the_rule_written_out(h: float) -> None:
    f, t, x = SmallField(), float64(0.2), START
    k1 = f(t, x)
    k2 = f(t + h / 3, x + h * k1 / 3)
    k3 = f(t + 2 * h / 3, x + h * (-k1 / 3 + k2))
    k4 = f(t + h, x + h * (k1 - k2 + k3))
    wanted = x + h * (k1 + 3 * k2 + 3 * k3 + k4) / 8
    problem = ODEProblem(f, START, (0.2, 0.2 + h))
    got = solve(problem, Solver(RK38(), FixedStep(abs(h)))).x[-1]
    assert torch.allclose(got, wanted, rtol=1e-15, atol=1e-15)
    other = solve(problem, Solver(RK4(), FixedStep(abs(h)))).x[-1]
    assert (other - wanted).abs().max() > 1e-7


@pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "reversed"])
def test_it_is_what_torchdiffeq_calls_rk4(span: Span) -> None:
    field = SmallField()
    times = torch.linspace(*span, 5, dtype=torch.float64)
    theirs = torchdiffeq.odeint(field, START, times, method="rk4")
    ours = solve(ODEProblem(field, START, span), Solver(RK38(), FixedStep(0.25))).x[-1]
    assert torch.allclose(theirs[-1], ours, rtol=1e-14, atol=1e-15)


def test_a_recipe_calls_it_rk38() -> None:
    assert ALGORITHMS["rk38"] is RK38
