"""Gradients with respect to times: f at a saved one, −Φ f at the start."""

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    KineticEnergy,
    MLPField,
    ODEProblem,
    RegularizedFlow,
    Sensitivity,
    Solver,
    solve,
)

SENSITIVITIES: list[Sensitivity] = [
    DiscreteAdjoint(),
    CheckpointedAdjoint(2),
    BacksolveAdjoint(),
    InterpolatingAdjoint(),
]
STEPPINGS = [FixedStep(0.02), AdaptiveStep(1e-10, 1e-10)]
each_sensitivity = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
each_stepping = pytest.mark.parametrize("stepping", STEPPINGS, ids=["fixed", "adaptive"])


def driven(t: Tensor, x: Tensor) -> Tensor:
    return torch.sin(3 * t) * x - x**3


def loss(times: list[Tensor], solver: Solver) -> Tensor:
    x0 = torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    states = solve(ODEProblem(driven, x0, (times[0], times[-1])), solver, save_at=times).x
    return (states * torch.arange(1, states.numel() + 1).view_as(states)).sin().sum()


@each_stepping
@each_sensitivity
@pytest.mark.parametrize("span", [(0.1, 0.4, 0.9), (0.9, 0.6, 0.1)], ids=["forward", "backward"])
def test_of_every_time_of_a_solve(
    sensitivity: Sensitivity, stepping: FixedStep | AdaptiveStep, span: tuple[float, ...]
) -> None:
    solver, tight = Solver(Dopri5(), stepping, sensitivity), Solver(Dopri5(), STEPPINGS[1])
    times = [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in span]
    found = torch.stack(torch.autograd.grad(loss(times, solver), times))
    h = 1e-5
    expected = torch.zeros(3, dtype=torch.float64)
    for i in range(3):
        ends = []
        for step in (h, -h):
            moved = [t.detach() + (step if i == j else 0.0) for j, t in enumerate(times)]
            ends.append(loss(moved, tight))
        expected[i] = (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@each_sensitivity
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_of_the_end_of_a_flow(sensitivity: Sensitivity, direction: str) -> None:
    torch.manual_seed(0)
    field = MLPField(2, (8,)).double()
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(4, 2, dtype=torch.float64)

    def value(end: Tensor | float) -> Tensor:
        solver = Solver(Dopri5(), STEPPINGS[1], sensitivity)
        flow = RegularizedFlow(field, solver, ExactDivergence(), [KineticEnergy(1.0)], end)
        z, log_det, penalties = getattr(flow, direction)(x)
        return z.square().sum() + log_det.sum() + penalties["kinetic_energy"].sum()

    end = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(value(end), end)
    expected = (value(0.8 + 1e-5) - value(0.8 - 1e-5)) / 2e-5
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-7)


def test_an_end_time_trains_with_its_flow() -> None:
    end = torch.nn.Parameter(torch.tensor(1.0))
    flow = RegularizedFlow(MLPField(2), divergence=HutchinsonDivergence(), end_time=end)
    assert any(parameter is end for parameter in flow.parameters())
    assert flow.end_time == 1.0


@each_sensitivity
def test_a_second_derivative_is_refused(sensitivity: Sensitivity) -> None:
    end = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    x0 = torch.ones(1, 1, dtype=torch.float64)
    state = solve(ODEProblem(driven, x0, (0.0, end)), Solver(sensitivity=sensitivity)).x[-1]
    (speed,) = torch.autograd.grad(state.sum(), end, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives"):
        torch.autograd.grad(speed, end)


def test_a_field_that_draws_anew_has_no_gradient_by_time() -> None:
    end = torch.tensor(1.0, requires_grad=True)

    def noisy(t: Tensor, x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(-x)

    with pytest.raises(ValueError, match="FrozenNoise"):
        solve(ODEProblem(noisy, torch.ones(4, 4), (0.0, end)), Solver(stepping=FixedStep(0.5)))
