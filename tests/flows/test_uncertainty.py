"""Log-likelihood with its standard error, and the two directions of a solve against each other."""

import pytest
import torch

from rnode_dyn import (
    AdaptiveStep,
    Divergence,
    Dopri5,
    ExactDivergence,
    FlowDistribution,
    HutchinsonDivergence,
    MLPField,
    RegularizedFlow,
    Solver,
)

DIVERGENCES = [
    HutchinsonDivergence("gaussian"),
    HutchinsonDivergence("rademacher", probes=2),
    ExactDivergence(),
]


def make_flow(divergence: Divergence) -> RegularizedFlow:
    torch.manual_seed(1)
    solver = Solver(Dopri5(), AdaptiveStep(1e-8, 1e-8))
    flow = RegularizedFlow(MLPField(4, (8,), "tanh").double(), solver, divergence)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return flow.eval()


@pytest.mark.parametrize("divergence", DIVERGENCES[:2], ids=repr)
def test_the_standard_error_covers_the_exact_value(divergence: Divergence) -> None:
    x = torch.randn(60, 4, dtype=torch.float64)
    exact = FlowDistribution(make_flow(ExactDivergence()), (4,)).log_prob(x)
    with torch.no_grad():
        mean, stderr = FlowDistribution(make_flow(divergence), (4,)).estimate_log_prob(x, 64)
    deviations = (mean - exact) / stderr
    # Of 60 deviations in units of their standard error, the mean square is 1 ± 0.2.
    assert 0.5 < deviations.square().mean() < 2.0
    assert deviations.abs().max() < 5


def test_more_repeats_know_it_better() -> None:
    x = torch.randn(40, 4, dtype=torch.float64)
    distribution = FlowDistribution(make_flow(DIVERGENCES[0]), (4,))
    with torch.no_grad():
        few, many = (distribution.estimate_log_prob(x, n).stderr.mean() for n in (8, 72))
    assert few / many == pytest.approx(3.0, rel=0.25)


def test_an_exact_divergence_leaves_no_error() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    estimate = FlowDistribution(make_flow(ExactDivergence()), (4,)).estimate_log_prob(x, 2)
    assert torch.equal(estimate.stderr, torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=repr)
def test_forward_and_reverse_agree_under_the_same_noise(divergence: Divergence) -> None:
    flow, x = make_flow(divergence), torch.randn(5, 4, dtype=torch.float64)
    torch.manual_seed(2)
    z, forward, _ = flow(x)
    torch.manual_seed(2)
    back, reverse, _ = flow.inverse(z)
    assert torch.allclose(back, x, atol=1e-6)
    assert torch.allclose(reverse, -forward, atol=1e-6)


def test_one_repeat_has_no_standard_error() -> None:
    distribution = FlowDistribution(make_flow(ExactDivergence()), (4,))
    with pytest.raises(ValueError, match="a standard error takes 2 or more"):
        distribution.estimate_log_prob(torch.zeros(1, 4, dtype=torch.float64), repeats=1)
