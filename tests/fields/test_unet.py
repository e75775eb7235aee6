"""The U-Net: what it takes, what it refuses, and derivatives of it that are right."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import RK4, ExactDivergence, FixedStep, RegularizedFlow, Solver, UNetField
from rnode_dyn.fields.linearize import linearize
from rnode_dyn.fields.unet import GROUPS, PixelAttention, ResidualBlock, TimeSines, most_levels
from rnode_dyn.recipe import model


def awake(field: UNetField) -> UNetField:
    """The field with random weights everywhere: its last layer starts at zero."""
    for parameter in field.last.parameters():
        nn.init.normal_(parameter, std=0.3)
    return field


@pytest.mark.parametrize(
    ("sides", "levels"),
    [((28, 28), 3), ((32, 32), 5), ((14, 28), 2), ((7, 7), 1), ((2, 2), 1), ((6, 8), 2)],
)
def test_levels_that_an_image_allows(sides: tuple[int, int], levels: int) -> None:
    assert most_levels(*sides) == levels
    field, x = awake(UNetField(1, 8, levels)), torch.randn(2, 1, *sides)
    assert field(torch.tensor(0.3), x).shape == x.shape
    with pytest.raises(ValueError, match=f"must leave whole sides .* write {levels} or fewer"):
        UNetField(1, 8, levels + 1)(torch.tensor(0.3), x)


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 1, 1, 8)])
def test_an_image_of_one_pixel_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no U-Net can take it"):
        UNetField(1, 8, 1)(torch.tensor(0.3), torch.zeros(shape))


@pytest.mark.parametrize("width", [1, 12, 20])
def test_a_width_that_groups_cannot_divide_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width is {width}; write a multiple of 8"):
        UNetField(1, width)


@pytest.mark.parametrize(("growth", "deepest"), [(1, 8), (2, 32), (3, 72)])
def test_channels_grow_by_what_is_said(growth: int, deepest: int) -> None:
    field, x = awake(UNetField(1, 8, 3, growth=growth)), torch.randn(2, 1, 8, 8)
    assert field.middle.conv1.weight.shape == (deepest, deepest, 3, 3)
    assert field(torch.tensor(0.3), x).shape == x.shape


@pytest.mark.parametrize("depth", [1, 3])
def test_each_size_has_as_many_blocks_as_is_said(depth: int) -> None:
    field, x = awake(UNetField(1, 8, 2, depth=depth)), torch.randn(2, 1, 8, 8)
    blocks = [m for m in field.modules() if isinstance(m, ResidualBlock)]
    assert len(blocks) == 2 * 2 * depth + 1
    field(torch.tensor(0.3), x).square().sum().backward()
    assert all(weight.grad is not None for block in blocks for weight in block.parameters())


def test_channels_that_shrink_to_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="growth is 0"):
        UNetField(1, 8, growth=0)
    with pytest.raises(ValueError, match="depth is 0"):
        UNetField(1, 8, depth=0)
    with pytest.raises(ValueError, match="channels is 0"):
        UNetField(0, 8)


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="takes images"):
        UNetField(1, 8)(torch.tensor(0.3), torch.zeros(2, 5))


def test_recipes_know_the_groups() -> None:
    assert model._GROUPS == GROUPS  # recipes are read without torch


@pytest.mark.parametrize("attention", [False, True])
def test_it_starts_as_the_identity_and_all_of_it_is_used(attention: bool) -> None:
    field, x = UNetField(2, 8, 2, attention), torch.randn(3, 2, 4, 4)
    assert not field(torch.tensor(0.3), x).any()
    awake(field)(torch.tensor(0.3), x).sin().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in field.parameters())


@pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
def test_a_skip_is_the_velocity_between_normal_samples(time: float) -> None:
    """E[z − a | x] of x = (1 − t) a + t z, both standard normal, is their regression on x."""
    field, x = UNetField(2, 8, 2, skip=True), torch.randn(3, 2, 4, 4)
    slope = (time - (1 - time)) / (time**2 + (1 - time) ** 2)
    torch.testing.assert_close(field(torch.tensor(time), x), slope * x)
    torch.testing.assert_close(field(torch.full((3,), time), x), slope * x)


def test_a_skip_is_added_to_what_is_learned() -> None:
    plain, x, t = awake(UNetField(1, 8, 2)), torch.randn(3, 1, 4, 4), torch.rand(3)
    field = UNetField(1, 8, 2, skip=True)
    field.load_state_dict(plain.state_dict())
    ahead = (2 * t - 1) / (t**2 + (1 - t) ** 2)
    torch.testing.assert_close(field(t, x), plain(t, x) + ahead[:, None, None, None] * x)


def test_with_a_skip_the_untrained_flow_is_the_identity_too() -> None:
    field, x = UNetField(1, 8, 2, skip=True), torch.randn(3, 1, 4, 4)
    flow = RegularizedFlow(field, Solver(RK4(), FixedStep(1 / 32)), ExactDivergence())
    with torch.no_grad():
        z, log_det, _ = flow(x)
    torch.testing.assert_close(z, x, rtol=1e-6, atol=1e-6)
    assert log_det.abs().max() < 1e-5


def test_samples_do_not_see_each_other() -> None:
    field, x = awake(UNetField(2, 8, 2, attention=True)), torch.randn(4, 2, 4, 6)
    alone = torch.cat([field(torch.tensor(0.3), sample[None]) for sample in x])
    torch.testing.assert_close(field(torch.tensor(0.3), x), alone, rtol=1e-10, atol=1e-12)


def test_attention_is_softmax_of_products() -> None:
    """Against torch's own, which cannot be differentiated twice."""
    layer, x = PixelAttention(8), torch.randn(2, 8, 3, 4)
    parts = layer.to_parts(layer.norm(x)).flatten(2).reshape(2, 3, 4, 2, 12).mT
    mixed = nn.functional.scaled_dot_product_attention(*parts.unbind(1))
    expected = x + layer.out(mixed.mT.reshape(2, 8, 3, 4))
    torch.testing.assert_close(layer(x), expected)


def test_first_and_second_derivatives_against_differences() -> None:
    field, x = awake(UNetField(1, 8, 2, attention=True)), torch.randn(1, 1, 4, 4)
    v, t = torch.randn_like(x), torch.tensor(0.4)

    def product(state: Tensor) -> Tensor:
        return linearize(field, t, state).pull(v)

    assert torch.autograd.gradcheck(lambda s: field(t, s), (x.clone().requires_grad_(),))
    assert torch.autograd.gradcheck(product, (x.clone().requires_grad_(),), fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda time: field(time, x), (torch.tensor(0.4).requires_grad_(),)
    )


def test_the_exact_log_determinant_is_that_of_the_flows_jacobian() -> None:
    field = awake(UNetField(1, 8, 2))
    field.last.weight.data.mul_(0.3)  # few steps are to be enough
    flow = RegularizedFlow(field, Solver(RK4(), FixedStep(1 / 16)), ExactDivergence())
    x = torch.randn(1, 1, 4, 4)

    def carried(state: Tensor) -> Tensor:
        return flow.trajectory(state, (0.0, 1.0))[-1]

    jacobian = torch.autograd.functional.jacobian(carried, x).view(16, 16)
    with torch.no_grad():
        log_det = flow(x).log_det
    assert log_det.abs() > 0.05
    torch.testing.assert_close(log_det, jacobian.slogdet()[1][None], rtol=1e-3, atol=1e-3)


def test_single_precision_and_channels_last_agree_with_double() -> None:
    field, x = awake(UNetField(1, 8, 3, attention=True)), torch.randn(2, 1, 8, 8)
    t = torch.tensor([0.2, 0.9])
    expected = field(t, x)
    single = field.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    value = single(t, x.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_weights_of_half_precision_see_times_as_they_are(half: torch.dtype) -> None:
    """Rounded frequencies would stay rounded where the field is scored, but not once loaded."""
    sines, t = TimeSines(3).float(), torch.linspace(0, 1, 9, dtype=torch.float32)
    nn.init.constant_(sines.linear.weight, 0.125)  # which half precision has
    nn.init.zeros_(sines.linear.bias)
    exact, wanted = sines.frequencies.clone(), sines(t)
    found = sines.to(half)(t.to(half))
    assert found.dtype == half
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.02)
    assert torch.equal(sines.float().frequencies, exact)
    assert torch.equal(sines(t), wanted)
