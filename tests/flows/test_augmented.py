"""The bound of an augmented flow against the density that a linear one has, and its refusals."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from rnode_dyn import (
    RK4,
    Augmented,
    ConvField,
    Dopri5,
    Energy,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    FlowMatching,
    FlowTraining,
    HutchinsonDivergence,
    KineticEnergy,
    Likelihood,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    Quadrature,
    RegularizedFlow,
    Scale,
    Solver,
    evaluate,
)
from rnode_dyn.data import Event
from rnode_dyn.flows.share import Share, sharing

SOLVER = Solver(Dopri5(), FixedStep(0.25))
# Two entries of x, then two of the noise.
MATRIX = torch.tensor(
    [[0.3, 0.5, -0.4, 0.2], [-0.2, 0.1, 0.3, 0.4], [0.5, -0.3, 0.2, 0.1], [0.1, 0.4, -0.2, -0.3]],
    dtype=torch.float64,
)


def linear(matrix: Tensor = MATRIX, **arguments: Any) -> RegularizedFlow:
    arguments = {"divergence": ExactDivergence(), **arguments}
    return RegularizedFlow(lambda t, y: y @ matrix.T, SOLVER, **arguments)


def joint_of(matrix: Tensor = MATRIX) -> Tensor:
    """The covariance of (x, e) where the flow takes it to N(0, I)."""
    back = torch.linalg.matrix_exp(-matrix)
    return back @ back.T


def test_one_sample_lies_below_by_the_divergence_of_the_noise() -> None:
    """E[log p(x, e) − log q(e)] = log p(x) − KL(q(e) ‖ p(e | x))."""
    covariance, x = joint_of(), torch.tensor([0.4, -0.7])
    xx, ex, ee = covariance[:2, :2], covariance[2:, :2], covariance[2:, 2:]
    to_noise = ex @ torch.linalg.inv(xx)
    given_x = MultivariateNormal(to_noise @ x, ee - to_noise @ ex.T)
    noise = MultivariateNormal(torch.zeros(2), torch.eye(2))
    exact = MultivariateNormal(torch.zeros(2), xx).log_prob(x)
    expected = exact - kl_divergence(noise, given_x)
    found = Augmented(linear(), 2).log_prob_bound(x.expand(20_000, 2))
    assert abs(found.mean() - expected) < 4 * found.std() / len(found) ** 0.5
    assert expected < exact - 0.05
    # And rises to it.
    means = [
        Augmented(linear(), 2, samples).log_prob_bound(x.expand(20_000 // samples, 2)).mean()
        for samples in (1, 8, 200)
    ]
    assert means == sorted(means)
    assert abs(means[-1] - exact) < 0.02


def test_the_bound_is_the_density_where_the_noise_goes_its_own_way() -> None:
    matrix = torch.zeros(4, 4)
    matrix[:2, :2] = MATRIX[:2, :2]
    x = torch.randn(5, 2)
    alone = RegularizedFlow(lambda t, y: y @ matrix[:2, :2].T, SOLVER, ExactDivergence())
    exact = FlowDistribution(alone, (2,)).log_prob(x)
    augmented = Augmented(linear(matrix), 2, samples=3)
    torch.testing.assert_close(augmented.log_prob_bound(x), exact, rtol=1e-6, atol=1e-6)
    by_distribution = FlowDistribution(augmented, (2,)).log_prob_bound(x.view(1, 5, 2), samples=2)
    torch.testing.assert_close(by_distribution, exact[None], rtol=1e-6, atol=1e-6)


def test_samples_are_those_of_the_marginal() -> None:
    samples = FlowDistribution(Augmented(linear(), 2), (2,)).sample((20_000,))
    torch.testing.assert_close(samples.T.cov(), joint_of()[:2, :2], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("multiscale", [False, True])
def test_likelihood_trains_on_the_bound(multiscale: bool) -> None:
    block = RegularizedFlow(MLPField(3), SOLVER, regularizers=[KineticEnergy(2.0)])
    flow = MultiscaleFlow((3,), [Scale([block])]) if multiscale else block
    augmented, x = Augmented(flow, extra=1), torch.randn(6, 2)
    torch.manual_seed(1)
    loss = Likelihood().loss(augmented, x)
    torch.manual_seed(1)
    bound, penalties, weighted = augmented(x)
    assert list(loss.figures) == ["bits_per_dim_bound", "kinetic_energy", "evaluations"]
    bits = -bound.mean() / (2 * torch.tensor(2.0).log())
    torch.testing.assert_close(loss.value, bits + 2 * penalties["kinetic_energy"].mean())
    torch.testing.assert_close(weighted, 2 * penalties["kinetic_energy"])
    loss.value.backward()
    assert any(p.grad is not None and p.grad.any() for p in augmented.parameters())


def test_matching_has_the_noise_beside_the_data() -> None:
    augmented = Augmented(RegularizedFlow(MLPField(3)), extra=1)
    loss = FlowMatching().loss(augmented, torch.randn(8, 2))
    loss.value.backward()
    assert torch.isfinite(loss.value)


def test_images_and_conditions() -> None:
    solver = Solver(RK4(), FixedStep(0.5))
    flow = RegularizedFlow(ConvField(3, (4,), classes=2), solver)
    augmented, labels = Augmented(flow, extra=2), torch.tensor([0, 1, 1])
    images = FlowDistribution(augmented, (1, 4, 4)).given(labels)
    drawn = images.sample()
    assert drawn.shape == (3, 1, 4, 4)
    assert images.log_prob_bound(drawn).shape == (3,)


def test_parts_of_a_step_have_the_noise_of_the_whole() -> None:
    augmented, x = Augmented(linear(), 2, samples=2), torch.randn(4, 2)

    def bound(start: int, size: int) -> Tensor:
        with sharing(Share(start, size, 4, seed=5)):
            return augmented.log_prob_bound(x[start : start + size])

    whole = torch.cat([bound(0, 2), bound(2, 2)])
    torch.manual_seed(5)
    torch.testing.assert_close(whole, augmented.log_prob_bound(x))


def augmented_flow(**arguments: Any) -> Augmented:
    return Augmented(linear(**arguments), 2)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: Augmented(MLPField(3), 1), "RegularizedFlow or a MultiscaleFlow"),  # type: ignore[arg-type]
        (lambda: Augmented(linear(), 0), "Augmented: extra is 0"),
        (lambda: Augmented(linear(), 1.5), "Augmented: extra is 1.5"),  # type: ignore[arg-type]
        (lambda: Augmented(linear(), 2, samples=0), "Augmented: samples is 0"),
        (
            lambda: Augmented(
                MultiscaleFlow((4,), [Scale([linear()])], LogitTransform(0.1)), extra=2
            ),
            "begins with LogitTransform",
        ),
        (
            lambda: augmented_flow(divergence=HutchinsonDivergence()).log_prob_bound(
                torch.zeros(1, 2), samples=4
            ),
            "above the bound: write samples=1",
        ),
        (
            lambda: augmented_flow(quadrature=Quadrature("stratified", nodes=2)).log_prob_bound(
                torch.zeros(1, 2), samples=4
            ),
            "by Quadrature.*above the bound: write samples=1",
        ),
        (
            lambda: FlowDistribution(augmented_flow(), (2,)).log_prob(torch.zeros(1, 2)),
            "log_prob_bound",
        ),
        (
            lambda: FlowDistribution(linear(), (4,)).log_prob_bound(torch.zeros(1, 4)),
            "write log_prob",
        ),
        (lambda: Energy(lambda x: -x.square().sum(1)).loss(augmented_flow(), 3), "not tell the"),  # type: ignore[arg-type]
        (lambda: augmented_flow().inverse(torch.zeros(1, 4)), "no density of what it draws"),
        (lambda: FlowTraining(augmented_flow(), Event((2,))), "FlowTraining tells exact"),  # type: ignore[arg-type]
        (lambda: evaluate(augmented_flow(), [], Event((2,))), "evaluate\\(\\) tells exact"),  # type: ignore[arg-type]
        (
            lambda: Augmented(RegularizedFlow(MLPField(3)), 2).log_prob_bound(torch.zeros(1, 2)),
            "make \\(4,\\), and the flow takes \\(3,\\)",
        ),
        (
            lambda: FlowDistribution(Augmented(RegularizedFlow(MLPField(3)), 1), (3,)),
            "make \\(4,\\), and the flow takes \\(3,\\)",
        ),
        (lambda: FlowDistribution(augmented_flow(), ()), "a single number"),
        (lambda: augmented_flow().log_prob_bound(torch.zeros(2)), "write x\\[None\\]"),
        (lambda: augmented_flow()(torch.zeros(1, 2), torch.zeros(1, 1)), "takes one: leave it out"),
    ],
)
def test_what_it_is_not(act: Callable[[], object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        act()


def test_it_says_that_it_has_a_bound() -> None:
    assert "lower bound on log p(x)" in repr(augmented_flow())


def test_conditions_of_another_count_are_refused_by_their_own_shape() -> None:
    augmented = Augmented(RegularizedFlow(MLPField(3, condition=1), SOLVER), 1, samples=1)
    for rows in (torch.zeros(3, 1), torch.tensor(1.0)):
        said = rf"shape {tuple(rows.shape)} for 5 samples".replace("(", r"\(").replace(")", r"\)")
        with pytest.raises(ValueError, match=said):
            augmented.log_prob_bound(torch.zeros(5, 2), condition=rows)
