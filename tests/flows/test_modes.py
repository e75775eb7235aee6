"""Training and evaluation mode, and what a solve reports of itself."""

import pytest
import torch

from rnode_dyn import (
    RK4,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    KineticEnergy,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    ReversibleAdjoint,
    Scale,
    Solver,
)
from rnode_dyn.numerics.sensitivity.backsolve import BacksolveAdjoint
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.interpolating import InterpolatingAdjoint
from tests.flows.cases import SENSITIVITIES, loss, name_of, randomize

STAGES = 4


def steps(count: int, sensitivity: Sensitivity | None = None) -> Solver:
    """Return a solver that makes so many steps a block."""
    return Solver(RK4(), FixedStep(1 / count), sensitivity or DiscreteAdjoint())


@pytest.fixture
def flow() -> RegularizedFlow:
    return RegularizedFlow(
        randomize(MLPField(2, (4,))),
        steps(2),
        HutchinsonDivergence(),
        eval_solver=steps(5),
        eval_divergence=ExactDivergence(),
    )


@pytest.mark.parametrize("call", ["forward", "inverse", "generate"])
@pytest.mark.parametrize(("training", "accepted"), [(True, 2), (False, 5)])
def test_mode_chooses_the_solver(
    flow: RegularizedFlow, call: str, training: bool, accepted: int
) -> None:
    getattr(flow.train(training), call)(torch.randn(3, 2))
    assert flow.stats.accepted == accepted
    assert flow.stats.nfe == STAGES * accepted


def test_mode_chooses_the_divergence(flow: RegularizedFlow) -> None:
    x = torch.randn(3, 2)
    assert not torch.equal(flow(x).log_det, flow(x).log_det)
    flow.eval()
    assert torch.equal(flow(x).log_det, flow(x).log_det)
    flow.train()
    assert not torch.equal(flow(x).log_det, flow(x).log_det)


def test_without_parts_of_its_own_evaluation_uses_those_of_training() -> None:
    flow = RegularizedFlow(MLPField(2, (4,)), steps(3), ExactDivergence()).eval()
    assert flow.active_solver is flow.solver
    assert flow.active_divergence is flow.divergence


def test_penalties_are_integrated_in_both_modes() -> None:
    flow = RegularizedFlow(randomize(MLPField(2, (4,))), steps(2), regularizers=[KineticEnergy(1)])
    x = torch.randn(3, 2)
    training = flow(x).penalties["kinetic_energy"]
    torch.testing.assert_close(flow.eval()(x).penalties["kinetic_energy"], training)
    assert (training > 0).all()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("sensitivity", [*SENSITIVITIES, CheckpointedAdjoint(2)], ids=repr)
def test_report_of_a_solve(sensitivity: Sensitivity, count: int) -> None:
    flow = RegularizedFlow(randomize(MLPField(2, (4,))), steps(count, sensitivity))
    for _ in range(2):  # reset for every solve: the second report is that of one solve too
        result = flow(torch.randn(3, 2))
        # A pair's second state follows between two steps, by a step of its own.
        made = 2 * count - 1 if isinstance(sensitivity, ReversibleAdjoint) else count
        evaluations = STAGES * made
        assert (flow.stats.accepted, flow.stats.rejected) == (count, 0)
        assert (flow.stats.nfe, flow.stats.nfe_backward, flow.stats.nvjp) == (evaluations, 0, 0)
        loss(result).backward()
        assert flow.stats.nfe == evaluations
        assert flow.stats.accepted == count
        assert flow.stats.nvjp == evaluations
        again = {DiscreteAdjoint: 0, CheckpointedAdjoint: evaluations}
        again[BacksolveAdjoint] = again[ReversibleAdjoint] = evaluations
        # The dense output reads a slope at each step's end; the next step has it, but the last's.
        again[InterpolatingAdjoint] = evaluations + 1
        assert flow.stats.nfe_backward == again[type(sensitivity)]


@pytest.mark.parametrize("call", ["forward", "inverse", "generate"])
def test_every_block_has_a_report_of_its_own(call: str) -> None:
    blocks = [RegularizedFlow(MLPField(2, (4,)), steps(count)) for count in (1, 2, 3)]
    flow = MultiscaleFlow((2,), [Scale(blocks)])
    getattr(flow, call)(torch.randn(4, 2))
    assert [block.stats.accepted for block in flow.blocks] == [1, 2, 3]
    assert [block.stats.nfe for block in flow.blocks] == [STAGES * n for n in (1, 2, 3)]


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_no_graph_is_kept_where_no_gradient_is_wanted(sensitivity: Sensitivity) -> None:
    flow = RegularizedFlow(randomize(MLPField(2, (4,))), steps(2, sensitivity))
    with torch.no_grad():
        result = flow(torch.randn(3, 2, requires_grad=True))
    assert not result.z.requires_grad
    assert not result.log_det.requires_grad
