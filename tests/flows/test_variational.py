"""Learned dequantization: bins onto themselves, exact log-determinants, a bound that tightens."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from rnode_dyn import (
    RK4,
    Compose,
    FixedStep,
    FlowMatching,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
    UniformDequantization,
    VariationalDequantization,
    evaluate,
)
from rnode_dyn.data import Event
from rnode_dyn.flows.variational import dequantization_of
from rnode_dyn.training.objectives.likelihood import Likelihood

SHAPE = (1, 3, 4)


def learned(levels: int = 17, shape: tuple[int, int, int] = SHAPE) -> VariationalDequantization:
    torch.manual_seed(0)
    module = VariationalDequantization(shape, levels, width=8)
    for net in module.nets:
        for parameter in net[-1].parameters():  # type: ignore[index]
            nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("levels", [2, 17, 49, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bins_go_onto_themselves_and_back(levels: int, dtype: torch.dtype) -> None:
    module, spread = learned(levels).to(dtype), UniformDequantization(levels)
    pixels = torch.arange(12 * levels).remainder(levels).reshape(levels, *SHAPE)
    u = spread(pixels).to(dtype)
    moved, log_det, _ = module(u)
    assert not torch.allclose(moved, u, atol=0.1 / levels)
    assert torch.equal(spread.requantize(moved), pixels)
    back = module.inverse(moved)
    bin_width = 1 / levels
    torch.testing.assert_close(back.z, u, rtol=0, atol=bin_width * 2e-3)
    torch.testing.assert_close(back.log_det, -log_det, rtol=1e-3, atol=2e-3)


def test_ends_of_a_bin_stay_in_it() -> None:
    module, spread = learned(256), UniformDequantization(256)
    pixels = torch.full((1, *SHAPE), 255)
    for noise in (0.0, 1.0):
        u = spread(pixels, noise=torch.full((1, *SHAPE), noise))
        moved, log_det, _ = module(u)
        assert torch.equal(spread.requantize(moved), pixels)
        assert bool((moved < 1).all())
        assert bool(log_det.isfinite().all())


@pytest.mark.parametrize("bias", [-0.5, 0.5])
def test_noise_at_the_edges_lifts_no_bound(bias: float) -> None:
    """Draws nearer to an edge than float32 tells are many of one value, which has no density."""
    module, count = VariationalDequantization((1, 1, 1), 256, width=8, couplings=1), 100_000
    with torch.no_grad():
        module.nets[0][-1].bias[0] = bias  # type: ignore[index]
    noise = ((torch.arange(count) + 0.5) / count).double()
    u = UniformDequantization(256)(
        torch.full((count, 1, 1, 1), 128), noise=noise.float().reshape(-1, 1, 1, 1)
    )
    found = float(module(u).log_det.detach().mean(dtype=torch.float64))
    log_scale, before = 2 * math.tanh(bias / 2), noise.logit()
    after = before * math.exp(log_scale)
    slopes = (after.sigmoid() * (-after).sigmoid()) / (noise * (1 - noise))
    assert math.isclose(found, log_scale + float(slopes.log().mean()), rel_tol=1e-3)


def test_the_log_determinant_is_that_of_the_jacobian() -> None:
    module = learned().double()
    u = UniformDequantization(17)(torch.randint(17, (2, *SHAPE))).double()
    _, log_det, _ = module(u)
    for sample, found in zip(u, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: module(x[None]).z[0], sample)
        assert isinstance(jacobian, Tensor)
        expected = torch.linalg.slogdet(jacobian.reshape(12, 12))
        torch.testing.assert_close(found, expected.logabsdet)


def test_it_starts_as_the_identity() -> None:
    module = VariationalDequantization(SHAPE, 256)
    u = UniformDequantization(256)(torch.randint(256, (3, *SHAPE)))
    moved, log_det, _ = module(u)
    torch.testing.assert_close(moved, u, rtol=0, atol=1e-6)
    assert not log_det.any()


def test_points_beyond_the_cube_stay_where_they_are() -> None:
    x = torch.full((1, *SHAPE), 0.5)
    x[0, 0, 0, 0], x[0, 0, 1, 1] = -0.25, 1.0
    moved, log_det, _ = learned()(x)
    assert moved[0, 0, 0, 0] == -0.25
    assert moved[0, 0, 1, 1] == 1.0
    assert bool(log_det.isfinite())


class Still(nn.Module):
    """No flow: the latent variable is the logit."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def still() -> Scale:
    return Scale([RegularizedFlow(Still(), Solver(RK4(), FixedStep(1.0)))])


def test_the_bound_tightens_and_stays_a_bound() -> None:
    """Against the exact mass of every bin, where pixels are independent."""
    levels, shape, alpha = 4, (1, 2, 2), 0.05
    event = Event(shape, levels)
    pixels = torch.zeros(1000, *shape, dtype=torch.uint8)  # the bin whose density is least even
    module = VariationalDequantization(shape, levels, width=8)
    flow = MultiscaleFlow(shape, [still()], Compose([module, LogitTransform(alpha)]))
    edges = torch.tensor([0.0, 1 / levels], dtype=torch.float64)
    mass = Normal(0.0, 1.0).cdf((alpha + (1 - 2 * alpha) * edges).logit()).diff()
    # The logit's image is no whole line: the flow's density of the cube is Normal's on that.
    exact = -float(mass.log2())
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)

    def bound() -> Tensor:
        torch.manual_seed(1)
        u = UniformDequantization(levels)(pixels)
        return Likelihood().loss(flow, u, event).figures["bits_per_dim"]

    uniform = float(bound())
    for _ in range(50):
        optimizer.zero_grad()
        u = UniformDequantization(levels)(pixels[:100])
        Likelihood().loss(flow, u, event).value.backward()
        optimizer.step()
    tightened = float(bound())
    assert exact < tightened < uniform
    assert tightened - exact < 0.3 * (uniform - exact)


def test_matching_leaves_it_as_it_is() -> None:
    module = VariationalDequantization(SHAPE, 17, width=8)
    block = RegularizedFlow(MLPField(SHAPE, (8,)))
    flow = MultiscaleFlow(SHAPE, [Scale([block])], Compose([module, LogitTransform(0.05)]))
    u = UniformDequantization(17)(torch.randint(17, (4, *SHAPE)))
    FlowMatching().loss(flow, u, Event(SHAPE, 17)).value.backward()
    assert all(parameter.grad is None for parameter in module.parameters())


def test_an_evaluation_names_the_bound() -> None:
    batches = [torch.randint(17, (4, *SHAPE), dtype=torch.uint8)]
    for preprocess, name in ((learned(), "variational"), (None, "uniform")):
        flow = MultiscaleFlow(SHAPE, [still()], preprocess)
        assert evaluate(flow, batches, Event(SHAPE, 17)).protocol.dequantization == name
        assert dequantization_of(flow) == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((2,), 4), r"takes images .* has shape \(2,\)"),
        ((SHAPE, 1), "levels is 1; write 2 or more"),
        ((SHAPE, 2**20), "levels is 1048576; .* at most 65,536"),
        ((SHAPE, 2.5), "levels is 2.5"),
        ((SHAPE, 4, 0), "width is 0"),
        ((SHAPE, 4, 8, -1), "couplings is -1"),
    ],
)
def test_what_cannot_be_is_refused(given: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VariationalDequantization(*given)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of images of shape \(1, 3, 4\), not \(1, 4, 4\)"):
        MultiscaleFlow((1, 4, 4), [still()], learned())


def test_exact_mass_is_what_the_density_integrates_to() -> None:
    """Of a single pixel, by quadrature over its bin: moving the noise moves no mass."""
    module, points = learned(4, (1, 1, 1)).double(), 4_001
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    u = ((2 + grid) / 4).reshape(-1, 1, 1, 1)
    moved, log_det, _ = module(u)
    density = torch.exp(-3 * moved.flatten())
    expected = (math.exp(-1.5) - math.exp(-2.25)) / 3
    found = float((density * log_det.exp()).detach().mean() / 4)
    assert math.isclose(found, expected, rel_tol=2e-3)
