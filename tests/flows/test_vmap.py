"""Penalties and drawn times within vmap: the same numbers as without, or a sentence."""

import pytest
import torch

from rnode_dyn import (
    ErrorEstimate,
    ExactDivergence,
    FixedStep,
    Quadrature,
    RegularizedFlow,
    Regularizer,
    Solver,
    Stiffness,
    TaylorDerivative,
    TrajectoryPolynomial,
    Tsit5,
    Uniform,
)
from rnode_dyn.flows.end_time import EndTime
from tests.flows.cases import SmallField

SOLVER = Solver(Tsit5(), FixedStep(0.5))
PENALTIES = [ErrorEstimate(1.0), Stiffness(1.0), TaylorDerivative(1.0), TrajectoryPolynomial(1.0)]


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: p.name)
@pytest.mark.parametrize("end", [1.0, Uniform(0.75, 1.25)], ids=["fixed", "drawn"])
def test_penalties_are_those_of_one_batch_after_another(penalty: Regularizer, end: EndTime) -> None:
    flow = RegularizedFlow(SmallField(), SOLVER, ExactDivergence(), [penalty], end_time=end)
    x = torch.randn(3, 2, 4)

    def found(batch: torch.Tensor) -> torch.Tensor:
        return flow(batch).penalties[penalty.name]

    torch.manual_seed(0)
    together = torch.func.vmap(found, randomness="same")(x)
    for batch, values in zip(x, together, strict=True):
        torch.manual_seed(0)
        torch.testing.assert_close(values, found(batch))


@pytest.mark.parametrize(
    "arguments",
    [
        {"end_time": Uniform(0.75, 1.25)},
        {"regularizers": [TrajectoryPolynomial(1.0)]},
        {"quadrature": Quadrature("stratified", nodes=2)},
    ],
    ids=["end", "states", "nodes"],
)
def test_times_cannot_be_others_for_each_entry(arguments: dict) -> None:
    flow = RegularizedFlow(SmallField(), SOLVER, ExactDivergence(), **arguments)
    with pytest.raises(RuntimeError, match='write randomness="same"'):
        torch.func.vmap(lambda x: flow(x).z, randomness="different")(torch.randn(3, 2, 4))
