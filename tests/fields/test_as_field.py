"""Whatever is written as f(t, x) is a field, with the values that its author meant."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchdyn.nn import DepthCat

from rnode_dyn.fields.as_field import as_field
from rnode_dyn.fields.linearize import linearize, value_and_products
from rnode_dyn.fields.own_product import with_own_product

X = torch.tensor([[0.3, -0.8], [1.2, 0.1]], dtype=torch.float64)
T = torch.tensor(0.6, dtype=torch.float64)


def rotate(t: Tensor, x: Tensor) -> Tensor:
    """Return what every spelling below computes."""
    return torch.sin(t) * x.flip(1)


class TimeAndState(nn.Module):
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return rotate(t, x)


class OtherNames(nn.Module):
    def forward(self, time: Tensor, state: Tensor) -> Tensor:
        return rotate(time, state)


class WithArgs(nn.Module):
    def forward(self, t: Tensor, x: Tensor, args: Any) -> Tensor:  # torchdyn's
        return rotate(t, x)


class WithOptionalArgs(nn.Module):
    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
        return rotate(t, x)


class CallableObject:
    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return rotate(t, x)


class FromDepth(nn.Module):
    """Turns (x, t), as DepthCat joins them, into the rotation."""

    def forward(self, joined: Tensor) -> Tensor:
        return rotate(joined[:, -1:], joined[:, :-1])


class DepthInside(nn.Module):
    """Takes the time, and has a part that torchdyn hands it to."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(DepthCat(1), FromDepth())

    def forward(self, t: Tensor, x: Tensor) -> Tensor:  # reaches DepthCat
        return self.net(x)


class DepthInsideWithArgs(DepthInside):
    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
        return self.net(x)


SPELLINGS: dict[str, Callable[[], Callable]] = {
    "function": lambda: rotate,
    "lambda": lambda: lambda t, x: rotate(t, x),
    "partial": lambda: functools.partial(rotate),
    "bound method": lambda: TimeAndState().forward,
    "callable object": CallableObject,
    "module": TimeAndState,
    "module with other names": OtherNames,
    "module with args": WithArgs,
    "module with optional args": WithOptionalArgs,
    "sequential with DepthCat": lambda: nn.Sequential(DepthCat(1), FromDepth()),
    "module around DepthCat": DepthInside,
    "module with args around DepthCat": DepthInsideWithArgs,
}

every_spelling = pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())


@every_spelling
def test_value(spelling: Callable[[], Callable]) -> None:
    field = as_field(spelling())
    torch.testing.assert_close(field(T, X), rotate(T, X))
    torch.testing.assert_close(field(T, X, args={}), rotate(T, X))


@every_spelling
def test_derivatives(spelling: Callable[[], Callable]) -> None:
    field = as_field(spelling())
    v, dt = torch.tensor([[1.0, 0.5], [-2.0, 0.3]], dtype=X.dtype), torch.tensor(0.4, dtype=X.dtype)
    at = linearize(field, T, X, with_push=True)
    torch.testing.assert_close(at.value, rotate(T, X))
    torch.testing.assert_close(at.pull(v), torch.sin(T) * v.flip(1))
    expected = torch.cos(T) * dt * X.flip(1) + torch.sin(T) * v.flip(1)
    torch.testing.assert_close(at.push(dt, v), expected)


@every_spelling
def test_differentiating_leaves_the_field_fit_for_a_copy(spelling: Callable[[], Callable]) -> None:
    field = as_field(spelling())
    linearize(field, T, X, with_push=True).push(torch.ones_like(T), X)
    torch.testing.assert_close(copy.deepcopy(field)(T, X), rotate(T, X))


def test_a_field_in_torchdyns_form_stays_itself() -> None:
    field = WithOptionalArgs()
    assert as_field(field) is field


def test_a_product_of_its_own_is_used_through_the_wrapper() -> None:
    calls = []

    class Own(TimeAndState):
        def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            calls.append(1)
            return rotate(t, x), torch.sin(t) * v.flip(1)

    field = with_own_product(as_field(Own()), X)
    calls.clear()
    _, products, _ = value_and_products(field, T, X, X[None])
    torch.testing.assert_close(products[0], torch.sin(T) * X.flip(1))
    assert calls == [1]


@pytest.mark.parametrize("given", [3, "mlp", None])
def test_what_cannot_be_called_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match=rf"field is a {type(given).__name__}.*f\(t, x\)"):
        as_field(given)  # type: ignore[arg-type]
