"""A flow is cut anywhere in time: the pieces make the whole."""

from typing import Any

import pytest
import torch

from rnode_dyn import (
    ExactDivergence,
    FixedStep,
    Quadrature,
    RegularizedFlow,
    Solver,
    Tsit5,
)
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.flows.cases import REGULARIZERS, SENSITIVITIES, name_of
from tests.flows.test_linear_field import BATCH, DIM, AffineField, ClosedForm


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_the_pieces_make_the_whole(sensitivity: Sensitivity) -> None:
    field, x = AffineField(), torch.randn(BATCH, DIM)
    solver = Solver(Tsit5(), FixedStep(0.25), sensitivity)
    flow = RegularizedFlow(field, solver, ExactDivergence(), REGULARIZERS)
    cut = torch.tensor(0.4, requires_grad=True)
    first = flow.between(x, 0.0, cut)
    whole, exact = first.then(flow.between(first.z, cut, 1.0)), ClosedForm(field, 1.0).forward(x)
    torch.testing.assert_close(whole.z, exact.z, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole.log_det, exact.log_det, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(whole.z.sum(), cut)
    torch.testing.assert_close(gradient, torch.zeros(()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("quadrature", [None, Quadrature("gauss", 6)], ids=["stages", "gauss"])
def test_the_way_back(quadrature: Quadrature | None) -> None:
    solver = Solver(Tsit5(), FixedStep(0.05))
    flow = RegularizedFlow(AffineField(), solver, ExactDivergence(), quadrature=quadrature)
    x = torch.randn(BATCH, DIM)
    there = flow.between(x, 0.3, 0.8)
    back = flow.between(there.z, 0.8, 0.3)
    torch.testing.assert_close(back.z, x, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(back.log_det, -there.log_det, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("times", [(0.5, 0.5), ("0", 1.0), (0.0, None), (0.0, float("nan"))])
def test_wrong_times(times: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"t0|span"):
        RegularizedFlow(AffineField()).between(torch.randn(BATCH, DIM), *times)


def test_nodes_do_not_move_with_a_time_that_wants_a_gradient() -> None:
    flow = RegularizedFlow(AffineField(), quadrature=Quadrature("gauss", 3))
    cut = torch.tensor(0.4, requires_grad=True)
    for times in ((0.0, cut), (cut, 1.0)):
        with pytest.raises(ValueError, match="nodes would move"):
            flow.between(torch.randn(BATCH, DIM), *times)
