"""The objective, the learning-rate schedule, and evaluation, each against closed forms."""

import math

import pytest
import torch

from rnode_dyn import (
    RK4,
    FixedStep,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
    evaluate,
)
from rnode_dyn.data import Event
from rnode_dyn.training.loop.module import OptimizerSettings

EVENT = Event((3,), levels=None)


def make_model(weight: float) -> MultiscaleFlow:
    regularizers = [KineticEnergy(weight), JacobianFrobenius(2 * weight)]
    flow = RegularizedFlow(MLPField(3, (8,)), Solver(RK4(), FixedStep(0.5)), None, regularizers)
    torch.nn.init.normal_(flow.field.layers[-1].weight)  # type: ignore[union-attr]
    return MultiscaleFlow((3,), [Scale([flow])])


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_loss_is_bits_plus_weighted_penalties(weight: float) -> None:
    loss = Likelihood().loss(make_model(weight), torch.randn(5, 3), EVENT)
    figures = loss.figures
    expected = figures["bits_per_dim"] + weight * (
        figures["kinetic_energy"] + 2 * figures["jacobian_frobenius"]
    )
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_given_regularizers_replace_the_blocks_own_weights() -> None:
    loss = Likelihood([KineticEnergy(5.0)]).loss(make_model(0.3), torch.randn(5, 3), EVENT)
    expected = loss.figures["bits_per_dim"] + 5.0 * loss.figures["kinetic_energy"]
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_regularizers_leave_bits_alone() -> None:
    loss = Likelihood([]).loss(make_model(0.3), torch.randn(5, 3), EVENT)
    assert torch.equal(loss.value.detach(), loss.figures["bits_per_dim"])


def test_a_regularizer_alone_is_no_list_of_them() -> None:
    with pytest.raises(TypeError, match=r"write a list: \[KineticEnergy\(weight=0.1\)\]"):
        Likelihood(KineticEnergy(0.1))  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "cooldown"])
def test_learning_rate_rises_then_never_rises(schedule: str) -> None:
    settings = OptimizerSettings(warmup_steps=5, schedule=schedule)  # type: ignore[arg-type]
    factors = [settings.factor(step, 50) for step in range(51)]
    assert factors[:5] == sorted(factors[:5])
    assert max(factors) == factors[4] == 1.0
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] == pytest.approx(1.0 if schedule == "constant" else 0.0)


def identity_model(dims: int) -> MultiscaleFlow:
    """A flow whose field is zero, as every field starts."""
    regularizers = [KineticEnergy(0.0), JacobianFrobenius(0.0)]
    flow = RegularizedFlow(MLPField(dims, (4,)), regularizers=regularizers)
    return MultiscaleFlow((dims,), [Scale([flow])])


def test_evaluation_of_the_identity_is_the_gaussian() -> None:
    x = torch.randn(64, 3)
    result = evaluate(identity_model(3), [x[:40], x[40:]], EVENT)
    nats = (0.5 * x.square().sum(1) + 1.5 * math.log(2 * math.pi)).double()
    bits = nats / (3 * math.log(2))
    assert result.samples == 64
    assert result.bits_per_dim == pytest.approx(bits.mean().item(), rel=1e-5)
    assert result.bits_per_dim_stderr == pytest.approx(bits.std().item() / 8, rel=1e-4)
    assert result.bits_per_dim_bin_centre is None
    assert result.kinetic_energy == result.jacobian_frobenius == 0.0
    assert result.reconstruction_error < 1e-6


def test_bin_centres_are_scored_without_noise() -> None:
    pixels = torch.tensor([[0, 1, 3]], dtype=torch.uint8)
    result = evaluate(identity_model(3), [pixels], Event((3,), levels=4))
    centre = (pixels + 0.5) / 4
    nats = 0.5 * centre.square().sum() + 1.5 * math.log(2 * math.pi)
    assert result.bits_per_dim_bin_centre == pytest.approx(2 + nats.item() / (3 * math.log(2)))
    assert result.bits_per_dim != result.bits_per_dim_bin_centre


def test_evaluation_repeats_with_its_seed_and_leaves_the_random_state() -> None:
    pixels = torch.randint(0, 4, (8, 3), dtype=torch.uint8)
    state = torch.get_rng_state()
    one, two, three = (
        evaluate(make_model_fixed(), [pixels], Event((3,), levels=4), seed) for seed in (1, 1, 2)
    )
    assert one.bits_per_dim == two.bits_per_dim != three.bits_per_dim
    assert torch.equal(state, torch.get_rng_state())


def make_model_fixed() -> MultiscaleFlow:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return make_model(0.1)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="no sample to evaluate"):
        evaluate(identity_model(3), [], EVENT)
