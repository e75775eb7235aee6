"""Noise that is frozen for a solve, so that every sensitivity differentiates the same field."""

import copy

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    ExactDivergence,
    FrozenNoise,
    InterpolatingAdjoint,
    RegularizedFlow,
    Sensitivity,
    Solver,
    Tsit5,
)

TIGHT = AdaptiveStep(1e-9, 1e-9)


def noisy() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 2))
    return layers.double()


def gradients(frozen: FrozenNoise, sensitivity: Sensitivity) -> tuple[Tensor, ...]:
    flow = RegularizedFlow(frozen, Solver(Tsit5(), TIGHT, sensitivity), ExactDivergence())
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)
    z, log_det, _ = flow(x)
    return torch.autograd.grad(z.square().sum() + log_det.sum(), tuple(frozen.parameters()))


@pytest.mark.parametrize(
    "sensitivity", [CheckpointedAdjoint(2), BacksolveAdjoint(), InterpolatingAdjoint()], ids=str
)
def test_every_sensitivity_gives_the_gradient_of_the_same_noise(sensitivity: Sensitivity) -> None:
    frozen = FrozenNoise(noisy(), seed=3)
    torch.testing.assert_close(
        gradients(frozen, sensitivity), gradients(frozen, DiscreteAdjoint()), rtol=1e-6, atol=1e-7
    )


def test_the_noise_of_others_goes_on_as_if_nothing_were_drawn() -> None:
    frozen, x = FrozenNoise(noisy(), seed=3), torch.ones(1, 2, dtype=torch.float64)
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    frozen(torch.tensor(0.0), x)
    assert torch.equal(torch.rand(2), expected)


def test_the_seed_is_drawn_from_torchs_own_and_kept_in_the_state() -> None:
    layers = [noisy(), noisy()]
    torch.manual_seed(5)
    one, other = (FrozenNoise(each) for each in layers)
    x = torch.ones(1, 2, dtype=torch.float64)
    assert not torch.equal(one(torch.tensor(0.0), x), other(torch.tensor(0.0), x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(torch.tensor(0.0), x), other(torch.tensor(0.0), x))
    assert torch.equal(copy.deepcopy(one)(torch.tensor(0.0), x), one(torch.tensor(0.0), x))


def test_noise_drawn_anew_between_a_solve_and_its_gradient_is_refused() -> None:
    frozen = FrozenNoise(noisy())
    flow = RegularizedFlow(frozen, Solver(sensitivity=InterpolatingAdjoint()))
    z, _, _ = flow(torch.ones(2, 2, dtype=torch.float64))
    frozen.redraw()
    with pytest.raises(RuntimeError, match="changed between the solve and its gradient"):
        z.sum().backward()
