"""Training from an energy, and the integral of a density by weighed samples."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    Augmented,
    Energy,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    HutchinsonDivergence,
    KineticEnergy,
    MLPField,
    MultiscaleFlow,
    Quadrature,
    RegularizedFlow,
    Scale,
    Solver,
    importance,
    sample_with_log_prob,
)


def gaussian(x: Tensor) -> Tensor:
    """Deviation ½ around (1, −1), without its constant: log Z = log(2π/4)."""
    return -2 * (x - x.new_tensor([1.0, -1.0])).square().sum(1)


def flow_of(*regularizers, divergence=None, quadrature=None) -> RegularizedFlow:
    torch.manual_seed(0)
    field, solver = MLPField(2, (16,)), Solver(RK4(), FixedStep(0.25))
    divergence = divergence or ExactDivergence()
    return RegularizedFlow(field, solver, divergence, regularizers, quadrature=quadrature)


@pytest.fixture(scope="module")
def trained() -> RegularizedFlow:
    flow = flow_of(KineticEnergy(0.0))
    optimizer = torch.optim.Adam(flow.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        Energy(gaussian).loss(flow, 64).value.backward()
        optimizer.step()
    return flow


def test_the_loss_comes_near_to_its_bound(trained: RegularizedFlow) -> None:
    torch.manual_seed(1)
    loss = float(Energy(gaussian).loss(trained, 1000).value.detach())
    assert -math.log(math.pi / 2) - 0.01 < loss < -math.log(math.pi / 2) + 0.05


def test_weighed_samples_give_the_integral(trained: RegularizedFlow) -> None:
    torch.manual_seed(2)
    found = importance(trained, gaussian, 2000)
    assert abs(found.log_z - math.log(math.pi / 2)) < 4 * found.log_z_stderr + 1e-3
    assert 0.8 < found.ess <= 1
    assert found.samples.shape == (2000, 2)
    assert found.log_weights.shape == (2000,)


def test_one_solve_gives_the_density_of_its_samples(trained: RegularizedFlow) -> None:
    samples, log_prob, _ = sample_with_log_prob(trained, 5)
    again = FlowDistribution(trained, (2,)).log_prob(samples)
    torch.testing.assert_close(log_prob, again, atol=1e-3, rtol=0)


def test_penalties_are_weighed_in() -> None:
    losses = []
    for weight in (0.0, 2.0):
        flow = flow_of(KineticEnergy(weight))
        torch.nn.init.ones_(flow.field.layers[-1].bias)
        torch.manual_seed(3)
        losses.append(Energy(gaussian).loss(flow, 8))
    more = losses[1].value - losses[0].value
    torch.testing.assert_close(more.detach(), 2 * losses[1].figures["kinetic_energy"])


def test_a_temperature_divides_the_density() -> None:
    flow, losses = flow_of(), []
    for energy in (Energy(gaussian, temperature=4.0), Energy(lambda x: gaussian(x) / 4)):
        torch.manual_seed(4)
        losses.append(energy.loss(flow, 8).value)
    torch.testing.assert_close(*losses)


def test_a_multiscale_flow_is_trained_alike() -> None:
    flow, losses = flow_of(KineticEnergy(1.0)), []
    for model in (flow, MultiscaleFlow((2,), [Scale([flow])])):
        torch.manual_seed(5)
        losses.append(Energy(gaussian).loss(model, 8).value)
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(
    ("density", "error", "words"),
    [
        (lambda x: x.sum(1) * math.nan, ValueError, "is nan at 4 of 4"),
        (lambda x: x.sum(1) + math.inf, ValueError, "is inf"),
        (lambda x: x, ValueError, r"shape \(4, 2\) for 4 samples"),
        (lambda x: x.sum(), ValueError, r"shape \(\) for 4"),
        (lambda x: 1.0, TypeError, "returned a float"),
    ],
)
def test_a_density_that_is_none_is_refused(density, error, words) -> None:
    with pytest.raises(error, match=words):
        Energy(density).loss(flow_of(), 4)
    with pytest.raises(error, match=words):
        importance(flow_of(), density, 4)


@pytest.mark.parametrize("density", [lambda x: gaussian(x.detach()), lambda x: x.sum(1).long()])
def test_a_density_without_a_gradient_cannot_train(density) -> None:
    with pytest.raises(ValueError, match="without a gradient"):
        Energy(density).loss(flow_of(), 4)
    assert importance(flow_of(), density, 4).ess > 0
    with torch.no_grad():
        assert Energy(density).loss(flow_of(), 4).value.isfinite()


def test_what_is_no_flow_is_refused() -> None:
    for model in (torch.nn.Linear(2, 2), Augmented(flow_of(), extra=1)):
        with pytest.raises(TypeError, match=r"does not tell the density .* write a Reg"):
            Energy(gaussian).loss(model, 4)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="does not tell the density"):
            importance(model, gaussian, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "estimate",
    [
        {"divergence": HutchinsonDivergence()},
        {"quadrature": Quadrature("stratified", nodes=2)},
    ],
    ids=["divergence", "nodes"],
)
def test_an_estimate_would_bias_the_weights(estimate: dict[str, Any]) -> None:
    flow = flow_of(**estimate)
    with pytest.raises(ValueError, match="would bias the weights"):
        importance(flow, gaussian, 4)


def test_a_field_that_does_not_tell_its_dimension_takes_it_from_the_caller() -> None:
    flow = RegularizedFlow(lambda t, x: -x)
    with pytest.raises(ValueError, match="event_shape"):
        Energy(gaussian).loss(flow, 4)
    assert Energy(gaussian, event_shape=(2,)).loss(flow, 4).value.dim() == 0
