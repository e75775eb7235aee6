"""The higher derivatives of affine trajectories have closed forms, and the low ones other names."""

import pytest
import torch
from torch import nn

from rnode_dyn import (
    DiscreteAdjoint,
    ExactDivergence,
    FixedStep,
    KineticEnergy,
    Midpoint,
    NonFiniteStateError,
    RegularizedFlow,
    RegularizedODE,
    Regularizer,
    Solver,
    TaylorDerivative,
    TotalDerivative,
    Tsit5,
    penalty,
)
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.flows.cases import SENSITIVITIES, SmallField, name_of, randomize
from tests.flows.test_linear_field import BATCH, DIM, AffineField, ClosedForm, gramian


@pytest.mark.parametrize(
    ("sensitivity", "order"),
    [(DiscreteAdjoint(), 4), *((s, 3) for s in SENSITIVITIES)],
    ids=name_of,
)
def test_value_and_gradient_are_the_closed_forms(sensitivity: Sensitivity, order: int) -> None:
    field, x = AffineField(), torch.randn(BATCH, DIM, requires_grad=True)
    solver = Solver(Tsit5(), FixedStep(0.25), sensitivity)
    layer = RegularizedODE(field, solver, [TaylorDerivative(0.7, order=order)])
    layer(x)
    generator = ClosedForm(field, 1.0).generator()
    rows = torch.linalg.matrix_power(generator, order)[:DIM]
    start = torch.cat([x, torch.tensor([[0.0, 1.0]]).expand(BATCH, 2)], dim=1)
    integrals = torch.einsum(
        "bi,ij,bj->b", start, gramian(generator, rows.T @ rows, 1.0), start
    ) / (2 * DIM)
    solved, formula = penalty(layer), 0.7 * integrals.mean()
    torch.testing.assert_close(solved, formula, rtol=1e-5, atol=1e-6)
    by_solve, by_formula = (
        torch.autograd.grad(value, [x, *field.parameters()], materialize_grads=True)
        for value in (solved, formula)
    )
    torch.testing.assert_close(by_solve, by_formula, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("order", "other"), [(1, KineticEnergy(1.0)), (2, TotalDerivative(1.0))], ids=["1", "2"]
)
def test_the_low_orders_are_known_penalties(order: int, other: Regularizer) -> None:
    solver = Solver(Midpoint(), FixedStep(0.5))
    regularizers = [TaylorDerivative(order=order), other]
    flow = RegularizedFlow(randomize(SmallField()), solver, ExactDivergence(), regularizers)
    taylor, known = flow(torch.randn(3, 4)).penalties.values()
    torch.testing.assert_close(taylor, known)


def test_a_field_of_another_kind_each_time_is_refused() -> None:
    field = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    layer = RegularizedODE(field, Solver(Midpoint(), FixedStep(0.5)), [TaylorDerivative(1.0, 2)])
    with pytest.raises(ValueError, match="FrozenNoise"):
        layer(torch.randn(8, 4))
    layer.eval()(torch.randn(8, 4))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(context: type) -> None:
    layer = RegularizedODE(
        randomize(SmallField()), Solver(Midpoint(), FixedStep(0.5)), [TaylorDerivative(1.0)]
    )
    x = torch.randn(3, 4)
    layer(x)
    expected = penalty(layer).detach()
    with context():
        layer(x)
        torch.testing.assert_close(penalty(layer), expected)


@pytest.mark.parametrize("order", [0, 1.5, "2", -1])
def test_wrong_orders(order: object) -> None:
    with pytest.raises(ValueError, match="TaylorDerivative: order is"):
        TaylorDerivative(1.0, order=order)  # type: ignore[arg-type]


def test_a_field_that_is_not_finite_is_blamed_for_that() -> None:
    layer = RegularizedODE(lambda t, x: x / 0, Solver(Midpoint(), FixedStep(0.5)))
    penalised = RegularizedODE(layer.field, layer.solver, [TaylorDerivative(1.0, 2)])
    with pytest.raises(NonFiniteStateError):
        penalised(torch.ones(2, 3))
