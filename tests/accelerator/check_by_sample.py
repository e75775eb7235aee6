"""Samples that step by themselves, and events, give on the device what they give on the CPU."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Event,
    FixedStep,
    HutchinsonDivergence,
    ODEProblem,
    RegularizedFlow,
    Solver,
    Tsit5,
    solve,
)
from tests.accelerator.twins import Figures, agree, gradients
from tests.flows.cases import REGULARIZERS, SmallField, name_of

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

ALONE = AdaptiveStep(1e-4, 1e-4, per_sample=True)
EACH_EXACT = pytest.mark.parametrize(
    "sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=name_of
)


@EACH_EXACT
def test_steps_of_each_sample(sensitivity) -> None:
    def use(field: nn.Module, x0: Tensor) -> Figures:
        x0.requires_grad_()
        problem = ODEProblem(field, x0, (0.0, 1.0))
        solution = solve(problem, Solver(Tsit5(), ALONE, sensitivity), save_at=[0.0, 0.3, 1.0])
        solution.x.sin().sum().backward()
        stats = solution.stats
        costs = {"nfe": stats.nfe, "accepted": stats.accepted}
        return {"x": solution.x, **costs, **gradients([x0, *field.parameters()])}

    agree(lambda: (SmallField(), torch.randn(3, 4)), use)


@EACH_EXACT
def test_a_flow_whose_samples_step_by_themselves(sensitivity) -> None:
    def use(flow: nn.Module, x: Tensor) -> Figures:
        x.requires_grad_()
        z, log_det, penalties = flow(x)
        (z.sum() + log_det.sum() + sum(p.sum() for p in penalties.values())).backward()
        return {"z": z, "log_det": log_det, **gradients([x, *flow.parameters()])}

    solver = Solver(Tsit5(), ALONE, sensitivity)
    divergence = HutchinsonDivergence("rademacher")
    agree(
        lambda: (RegularizedFlow(SmallField(), solver, divergence, REGULARIZERS), torch.rand(3, 4)),
        use,
    )


@pytest.mark.parametrize("stepping", [AdaptiveStep(1e-4, 1e-4), FixedStep(0.25)], ids=name_of)
def test_events(stepping) -> None:
    def use(x0: Tensor, kept: Tensor) -> Figures:
        x0.requires_grad_(), kept.requires_grad_()
        problem = ODEProblem(lambda t, x: torch.stack([x[:, 1], -x[:, 0]], 1), x0, (0.0, 4.0))
        events = [
            Event(lambda t, x: x[:, 0], direction=-1, apply=lambda t, x: -kept * x),
            Event(lambda t, x: x[:, 1] - 0.9, terminate=False),
        ]
        solution = solve(problem, Solver(Tsit5(), stepping), events=events)
        times = [t.nan_to_num(0.0) for t in solution.event_times]
        (solution.x.sum() + sum(t.sum() for t in times)).backward()
        return {"x": solution.x, "first": times[0], "second": times[1], **gradients([x0, kept])}

    agree(lambda: (torch.rand(3, 2) + 0.1, torch.rand(2) + 0.2), use)
