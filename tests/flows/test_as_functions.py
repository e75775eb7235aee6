"""Flows as functions of tensors alone, for traces to follow."""

import torch

from rnode_dyn import (
    Euler,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    MLPField,
    RegularizedFlow,
    Solver,
    TaylorDerivative,
    TrajectoryPolynomial,
)
from rnode_dyn.flows.as_functions import LogDensity
from rnode_dyn.flows.multiscale import as_multiscale


def test_penalties_stay_behind() -> None:
    """They may draw times or nest derivatives, which no trace follows."""
    penalties = [TrajectoryPolynomial(1.0), TaylorDerivative(1.0)]
    solver = Solver(Euler(), FixedStep(1.0))
    flow = RegularizedFlow(MLPField(4, (8,)), solver, ExactDivergence(), penalties).eval()
    x = torch.randn(2, 4)
    wanted = FlowDistribution(flow, (4,)).log_prob(x)
    density = LogDensity(as_multiscale(flow, (4,))).requires_grad_(False)
    with torch.no_grad():
        program = torch.export.export(density, (x,), strict=False).module()
    torch.testing.assert_close(program(x), wanted)
