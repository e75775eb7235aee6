"""What adaptive steps look at: the state and its log-determinant, and every sample by itself."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    Dopri5,
    ExactDivergence,
    FlowDistribution,
    HutchinsonDivergence,
    KineticEnergy,
    RegularizedFlow,
    Solver,
)
from rnode_dyn.flows.divergence import Linearization
from rnode_dyn.flows.regularizers import Regularizer
from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.stepping.error_norm import NormName
from tests.flows.cases import EMBEDDED, RecordedStep, SmallField, name_of


@dataclass(frozen=True)
class Huge(Regularizer):
    """A penalty that is enormous and oscillates far faster than the state."""

    name = "huge"

    def integrand(self, at: Linearization) -> Tensor:
        return self.weight * (1.5 + torch.sin(300 * at.t)) * at.x.square().flatten(1).sum(1)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("norm", ["rms", "max"])
@pytest.mark.parametrize("algorithm", EMBEDDED, ids=name_of)
def test_penalties_take_no_part_in_step_size_control(
    algorithm: Algorithm, norm: NormName, direction: str
) -> None:
    x, field = torch.randn(2, 1, 2, 2), SmallField()

    def solved(regularizers: list[Regularizer]) -> tuple[list[float], Tensor, int]:
        torch.manual_seed(2)
        stepping = RecordedStep(1e-3, 1e-3, norm=norm)
        flow = RegularizedFlow(
            field, Solver(algorithm, stepping), HutchinsonDivergence(), regularizers
        )
        result = getattr(flow, direction)(x)
        return stepping.ends, result.log_det, flow.stats.rejected

    ends, log_det, rejected = solved([])
    ends_beside, log_det_beside, rejected_beside = solved([Huge(1e9), KineticEnergy(1.0)])
    assert ends_beside == ends
    assert rejected_beside == rejected
    assert torch.equal(log_det_beside, log_det)


def oscillate(t: Tensor, x: Tensor) -> Tensor:
    """Harmless near zero, violent far out."""
    return torch.sin(x.square()) + 0.3 * torch.cos(t) * x.flip(1)


CALM = torch.tensor([[0.1, -0.2]], dtype=torch.float64)
WILD = torch.tensor([[7.0, -6.0]], dtype=torch.float64)
TOLERANCE = 1e-5


def log_prob(norm: NormName, *samples: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    solver = Solver(Dopri5(), AdaptiveStep(tolerance, tolerance, norm=norm))
    flow = RegularizedFlow(oscillate, solver, ExactDivergence(), end_time=0.5)
    return FlowDistribution(flow, (2,)).log_prob(torch.cat(samples))


def test_a_calm_sample_keeps_its_likelihood_beside_a_pathological_one() -> None:
    truth = log_prob("max", CALM, tolerance=1e-10)[0]
    for beside in (log_prob("max", CALM), log_prob("max", CALM, WILD)):
        assert abs(beside[0] - truth) < 50 * TOLERANCE


def test_a_pathological_sample_meets_the_tolerance_in_a_calm_crowd() -> None:
    truth = log_prob("max", WILD, tolerance=1e-10)[0]
    crowd = 0.1 * torch.randn(400, 2)
    errors = {norm: float(abs(log_prob(norm, WILD, crowd)[0] - truth)) for norm in ("max", "rms")}
    alone = float(abs(log_prob("max", WILD)[0] - truth))
    assert errors["max"] < 2 * alone + TOLERANCE
    # The averaged norm is what lets the crowd outvote it.
    assert errors["rms"] > errors["max"]
