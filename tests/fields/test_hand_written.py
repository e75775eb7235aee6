"""Derivatives written by hand against autograd's."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rnode_dyn import ConvField, MLPField
from rnode_dyn.fields.activations import ACTIVATIONS, activation
from rnode_dyn.fields.linearize import linearize

TIME = 0.37


@dataclass(frozen=True)
class Case:
    """A field class on one shape of sample."""

    name: str
    make: Callable[[str], nn.Module]
    event: tuple[int, ...]

    def build(self, activation_name: str) -> tuple[nn.Module, Tensor, Tensor]:
        """Return the field, its weights random, with a time and a batch of states."""
        field = self.make(activation_name)
        for parameter in field.parameters():
            nn.init.normal_(parameter, std=0.6)
        return field, torch.tensor(TIME), torch.randn(2, *self.event)


CASES = [
    Case("mlp", lambda a: MLPField(3, hidden=(5, 4), activation=a), (3,)),
    Case("mlp-on-images", lambda a: MLPField((1, 2, 2), hidden=(5,), activation=a), (1, 2, 2)),
    Case("mlp-linear", lambda a: MLPField(3, hidden=(), activation=a), (3,)),
    Case("conv", lambda a: ConvField(2, hidden=(3, 4), activation=a), (2, 3, 2)),
    Case("conv-linear", lambda a: ConvField(2, hidden=(), activation=a), (2, 2, 2)),
]

every_field = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_activation = pytest.mark.parametrize("name", sorted(ACTIVATIONS))


@every_activation
@settings(deadline=None)
@given(values=st.lists(st.floats(-60, 60), min_size=1, max_size=8))
def test_activation_derivative_is_that_of_its_function(name: str, values: list[float]) -> None:
    a = torch.tensor(values, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(activation(name).function(a).sum(), a)
    # torch's softplus is the identity beyond 20, where the true slope is 1 - 2e-9.
    torch.testing.assert_close(activation(name).derivative(a), by_autograd, rtol=1e-8, atol=1e-8)


@every_activation
@settings(deadline=None)
@given(value=st.floats(-15, 15).filter(lambda value: abs(value) > 1e-3))
def test_second_derivative_of_an_activation(name: str, value: float) -> None:
    a = torch.tensor(value, requires_grad=True)
    (curvature,) = torch.autograd.grad(activation(name).derivative(a), a)
    (slope,) = torch.autograd.grad(activation(name).function(a), a, create_graph=True)
    (by_autograd,) = torch.autograd.grad(slope, a)
    torch.testing.assert_close(curvature, by_autograd, rtol=1e-8, atol=1e-10)


@every_field
@every_activation
def test_product_is_the_cotangent_times_the_dense_jacobian(case: Case, name: str) -> None:
    field, t, x = case.build(name)
    v = torch.randn_like(x)
    value, product = field.value_and_vjp(t, x, v)
    # Samples do not see each other, so the sum over the batch keeps every sample's own Jacobian.
    jacobian = torch.autograd.functional.jacobian(lambda s: field(t, s).sum(0), x)
    rows = jacobian.reshape(x[0].numel(), len(x), -1)
    torch.testing.assert_close(value, field(t, x))
    expected = torch.einsum("bi,ibj->bj", v.flatten(1), rows).view_as(x)
    torch.testing.assert_close(product, expected, rtol=1e-10, atol=1e-12)


@every_field
@every_activation
def test_gradient_of_the_product_agrees_with_the_fallback(case: Case, name: str) -> None:
    field, t, x = case.build(name)
    x.requires_grad_()
    t.requires_grad_()
    v, weights = torch.randn_like(x), torch.randn_like(x)

    def gradients(product: Callable[..., tuple[Tensor, Tensor]]) -> list[Tensor]:
        value, vjp = product(t, x, v)
        loss = (value * weights).sum() + (vjp * weights).square().sum()
        return list(torch.autograd.grad(loss, [t, x, *field.parameters()], materialize_grads=True))

    plain = field.forward  # a bound method: nothing of its own to differentiate by

    def fallback(t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        at = linearize(plain, t, x)
        return at.value, at.pull(v)

    by_fallback = gradients(fallback)
    torch.testing.assert_close(gradients(field.value_and_vjp), by_fallback, rtol=1e-9, atol=1e-11)


@every_field
def test_jvp_is_the_derivative_along_a_line(case: Case) -> None:
    field, t, x = case.build("tanh")
    dt, dx, eps = torch.tensor(0.7), torch.randn_like(x), 1e-6
    difference = field(t + eps * dt, x + eps * dx) - field(t - eps * dt, x - eps * dx)
    pushed = linearize(field, t, x, with_push=True).push(dt, dx)
    torch.testing.assert_close(pushed, difference / (2 * eps), rtol=1e-7, atol=1e-8)


@every_field
def test_a_new_field_is_zero_and_yet_learns(case: Case) -> None:
    field = case.make("softplus")
    x = torch.randn(2, *case.event)
    value = field(torch.tensor(TIME), x)
    assert not value.any()
    value.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in field.parameters())


def test_conv_field_sees_time_as_one_more_channel() -> None:
    field = ConvField(2, hidden=())
    (layer,) = field.layers
    for parameter in field.parameters():
        nn.init.normal_(parameter)
    x, t = torch.randn(2, 2, 4, 3), torch.tensor(TIME)
    with_time = torch.cat([torch.full((2, 1, 4, 3), TIME), x], dim=1)
    weight = torch.cat([layer.time_weight, layer.weight], dim=1)
    expected = nn.functional.conv2d(with_time, weight, layer.bias, padding=1)
    torch.testing.assert_close(field(t, x), expected)


def test_parameter_count_is_that_of_concatenating_time() -> None:
    count = sum(p.numel() for p in ConvField(3, hidden=(64, 64, 64)).parameters())
    assert count == sum(9 * (i + 1) * o + o for i, o in [(3, 64), (64, 64), (64, 64), (64, 3)])


@pytest.mark.parametrize(
    "make", [lambda a: MLPField(2, activation=a), lambda a: ConvField(2, (), a)]
)
def test_unknown_activation_is_refused_with_the_choice(make: Callable[[str], nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"'relu'.*softplus.*tanh"):
        make("relu")


@pytest.mark.parametrize("times", [(), (3,)], ids=["one time", "a time a sample"])
def test_the_layout_of_the_weights_changes_neither_values_nor_gradients(times: tuple) -> None:
    """Where channels lie together, the time's map is added on another view of the same memory."""
    field, t, x = ConvField(2, (5, 4)), torch.rand(times), torch.randn(3, 2, 6, 7)
    for parameter in field.parameters():
        nn.init.normal_(parameter, std=0.6)
    given = [t.requires_grad_(), x.requires_grad_(), *field.parameters()]
    weights = torch.randn_like(x)

    def results() -> list[Tensor]:
        value, product = field.value_and_vjp(t, x, weights)
        loss = (value * weights).sum() + product.square().sum()
        return [value, product, *torch.autograd.grad(loss, given)]

    plain = results()
    field.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert field(t, x).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(results(), plain, rtol=1e-12, atol=1e-12)
