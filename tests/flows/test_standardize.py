"""Units taken off and given back: the right derivative, at any size, kept in the state."""

import copy
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from rnode_dyn import (
    Compose,
    ExactDivergence,
    FlowDistribution,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Standardize,
)
from rnode_dyn.flows.standardize import log_scale, standardizing
from tests.flows.cases import FINE, randomize

SHIFT = torch.tensor([1e6, -2.0, 0.1, 0.0])
SCALE = torch.tensor([1e3, 1e-3, 1.0, 1e160], dtype=torch.float64)


def units() -> Standardize:
    """Columns far off, small, constant, and beyond what float32 holds."""
    return Standardize(SHIFT, SCALE, torch.tensor([0.0, 0.0, 1e-8, 0.0]))


def test_a_density_in_units_is_that_of_scipy() -> None:
    distribution = FlowDistribution(units(), (4,))
    x = np.random.default_rng(0).normal(size=(50, 4)) * SCALE.numpy() + SHIFT.numpy()
    expected = stats.norm(SHIFT, SCALE).logpdf(x).sum(axis=1)
    np.testing.assert_allclose(distribution.log_prob(torch.from_numpy(x)), expected, rtol=1e-12)
    samples = distribution.sample((4000,))
    assert samples.dtype == torch.float64
    off = (samples - SHIFT) / SCALE
    assert abs(off.mean(dim=0)).max() < 5 / math.sqrt(4000)
    assert abs(off.std(dim=0) - 1).max() < 5 / math.sqrt(8000)


def test_a_flow_behind_it_has_the_density_of_what_it_sees() -> None:
    """With Σ log scale between a sample's nats and those of standardised units."""
    flow = RegularizedFlow(randomize(MLPField(4, (8,))), FINE, ExactDivergence())
    in_units = FlowDistribution(Compose([units(), flow]), (4,))
    y = torch.randn(10, 4)
    x = y * SCALE + SHIFT
    behind = FlowDistribution(flow, (4,)).log_prob(y)
    assert log_scale(in_units.model) == pytest.approx(float(SCALE.log().sum()))
    torch.testing.assert_close(
        in_units.log_prob(x), behind - SCALE.log().sum(), rtol=1e-6, atol=1e-6
    )


def test_the_gradient_is_one_over_the_scale_also_where_values_are_constant() -> None:
    x = (SHIFT.double() + torch.tensor([5.0, 5.0, 0.0, 5.0])).requires_grad_()
    (slope,) = torch.autograd.grad(units()(x[None]).z.sum(), x)
    torch.testing.assert_close(slope, 1 / SCALE)


def test_a_constant_is_exactly_0_and_another_value_as_far_as_it_lies() -> None:
    column = torch.tensor([0.1, np.nextafter(0.1, 1), float(np.float32(0.1)), 0.2, -0.9])
    rows = SHIFT.double().expand(5, 4).clone()
    rows[:, 2] = column
    z = units()(rows).z[:, 2]
    assert z[:3].tolist() == [0, 0, 0]
    torch.testing.assert_close(z[3:], torch.tensor([0.1, -1.0], dtype=z.dtype))


@pytest.mark.parametrize("cast", [torch.float32, torch.bfloat16, torch.float64])
def test_a_cast_flow_keeps_exact_units(cast: torch.dtype) -> None:
    model = Compose([units(), nn.Linear(4, 4)]).to(cast)
    (step,) = standardizing(model)
    assert torch.equal(step.shift, SHIFT.double())
    assert torch.equal(step.scale, SCALE)
    rows = SHIFT.double() + SCALE
    assert step(rows[None]).z.dtype == cast
    torch.testing.assert_close(step(rows[None]).z, torch.ones(1, 4, dtype=cast), atol=1e-6, rtol=0)


def test_float32_is_enough_where_it_blurs_nothing() -> None:
    small = Standardize(torch.tensor([3.0]), torch.tensor([0.5])).float()
    assert small.inverse(torch.ones(1, 1, dtype=torch.float32)).z.dtype == torch.float32
    half = small.to(torch.bfloat16).inverse(torch.ones(1, 1, dtype=torch.bfloat16)).z
    assert half.tolist() == [[3.5]]
    assert half.dtype == torch.float32
    for shift, scale in [(1e6, 1.0), (0.0, 1e-35), (0.0, 1e37), (1e38, 1e37)]:
        far = Standardize(torch.tensor([shift]), torch.tensor([scale])).float()
        back = far.inverse(torch.ones(1, 1, dtype=torch.float32)).z
        torch.testing.assert_close(back, torch.tensor([[shift + scale]], dtype=torch.float64))


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = Standardize(torch.zeros(4), torch.ones(4))
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


@pytest.mark.parametrize("taken", [copy.deepcopy, saved], ids=["copied", "saved and loaded"])
def test_the_units_are_part_of_the_state(taken: Callable[[nn.Module], nn.Module]) -> None:
    other = taken(units())
    rows = torch.randn(5, 4) * SCALE + SHIFT
    assert torch.equal(other(rows).z, units()(rows).z)
    assert not list(other.parameters())


def test_they_can_be_set_after() -> None:
    step = Standardize(torch.zeros(2), torch.ones(2))
    step.set(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    assert step(torch.tensor([[3.0, 2.0]])).z.tolist() == [[1.0, 0.0]]
    with pytest.raises(ValueError, match="scale above 0"):
        step.set(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"shape \(3,\) cannot be standardised by .* \(2,\)"):
        step.set(torch.zeros(3), torch.ones(3))


def test_images_have_units_too() -> None:
    step = Standardize(torch.full((1, 2, 2), 5.0), torch.full((1, 2, 2), 2.0))
    flow = MultiscaleFlow((1, 2, 2), [Scale([])], step)
    z, log_det, _ = flow(torch.full((3, 1, 2, 2), 7.0))
    assert torch.equal(z.flatten(), torch.ones(12, dtype=z.dtype))
    torch.testing.assert_close(log_det, torch.full((3,), -4 * math.log(2)))


@pytest.mark.parametrize(
    ("shift", "scale", "rounding", "reason"),
    [
        ([0.0], [0.0], [0.0], "scale above 0; write scale = 1 for values that do not vary"),
        ([0.0], [-1.0], [0.0], "scale above 0"),
        ([math.nan], [1.0], [0.0], "finite numbers"),
        ([0.0], [math.inf], [0.0], "finite numbers"),
        ([0.0], [1.0], [-1.0], "rounding has a number below 0"),
        ([0.0, 0.0], [1.0], [0.0], r"shift has shape \(2,\), scale \(1,\)"),
    ],
)
def test_impossible_units_are_refused(
    shift: list[float], scale: list[float], rounding: list[float], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^Standardize: .*{reason}"):
        Standardize(torch.tensor(shift), torch.tensor(scale), torch.tensor(rounding))


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"shape \(3,\) cannot be standardised by a shift of shape"
    ):
        units()(torch.zeros(2, 3))
