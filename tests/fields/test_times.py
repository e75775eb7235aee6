"""A time of its own for every sample: the batched path against a loop over the samples."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchdyn.nn import DepthCat

from rnode_dyn import ConvField, MLPField, RegularizedFlow, UNetField
from rnode_dyn.fields.as_field import as_field
from rnode_dyn.fields.at_times import at_times

T = torch.tensor([0.0, 0.37, 1.0, 0.37], dtype=torch.float64)


class Timed(nn.Module):
    """A module in plain torch that says that it takes a time for every sample."""

    takes_times = True

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.seen.append(tuple(t.shape))
        return torch.tanh(self.net(torch.cat([x, t.expand(len(x))[:, None]], dim=1)))


class Plain(nn.Module):
    """A module in plain torch, which takes no more than one time."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.net(torch.cat([x, t.expand(len(x), 1)], dim=1)))


FIELDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLPField(3, (5, 4)), (3,)),
    "mlp on images": (lambda: MLPField((1, 2, 2), (5,)), (1, 2, 2)),
    "mlp without hidden layers": (lambda: MLPField(3, ()), (3,)),
    "conv": (lambda: ConvField(2, (3, 4)), (2, 3, 2)),
    "conv without hidden layers": (lambda: ConvField(2, ()), (2, 2, 2)),
    "unet": (lambda: UNetField(2, 8, 2, attention=True), (2, 4, 6)),
    "function": (lambda: as_field(lambda t, x: torch.sin(3 * t) * x.flip(1) + t**2), (3,)),
    "module": (lambda: as_field(Plain()), (3,)),
    "module of many times": (lambda: as_field(Timed()), (3,)),
    "torchdyn": (
        lambda: as_field(nn.Sequential(DepthCat(1), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))),
        (3,),
    ),
}

every_field = pytest.mark.parametrize("name", FIELDS)


def build(name: str) -> tuple[nn.Module, Tensor]:
    make, event = FIELDS[name]
    field = make()
    for parameter in field.parameters():
        nn.init.normal_(parameter, std=0.6)
    return field, torch.randn(len(T), *event)


def one_by_one(field: nn.Module, t: Tensor, x: Tensor) -> Tensor:
    return torch.cat([field(time, sample[None]) for time, sample in zip(t, x, strict=True)])


def test_a_field_of_ones_own_that_takes_all_times_is_called_once() -> None:
    own = Timed().double()
    flow = RegularizedFlow(own)
    at_times(flow.field, T, torch.randn(len(T), 3, dtype=torch.float64))
    assert own.seen == [(len(T),)]


@every_field
def test_value_is_that_of_each_sample_alone(name: str) -> None:
    field, x = build(name)
    value = at_times(field, T, x)
    assert value.dtype == torch.float64
    assert value.shape == x.shape
    torch.testing.assert_close(value, one_by_one(field, T, x), rtol=1e-12, atol=1e-13)
    # Were the times ignored, or swapped, the values would be the same.
    assert not torch.allclose(value, at_times(field, T.flip(0), x))


@every_field
def test_gradients_are_those_of_each_sample_alone(name: str) -> None:
    field, x = build(name)
    x.requires_grad_()
    t = T.clone().requires_grad_()
    leaves = [t, x, *field.parameters()]
    weights = torch.randn_like(x)

    def gradients(evaluate: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> list[Tensor]:
        loss = (evaluate(field, t, x).sin() * weights).sum()
        return list(torch.autograd.grad(loss, leaves))

    for ours, alone in zip(gradients(at_times), gradients(one_by_one), strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-11, atol=1e-12)
    assert all(gradient.any() for gradient in gradients(at_times))


@every_field
def test_equal_times_are_one_time(name: str) -> None:
    field, x = build(name)
    t = torch.full((len(x),), math.pi / 7)
    torch.testing.assert_close(at_times(field, t, x), field(t[0], x), rtol=1e-12, atol=1e-13)


def test_a_field_that_takes_times_is_called_once() -> None:
    calls = []

    class Counting(MLPField):
        def forward(self, t: Tensor, x: Tensor, args: object = None) -> Tensor:
            calls.append(t.shape)
            return super().forward(t, x, args)

    at_times(Counting(3), T, torch.randn(len(T), 3))
    assert calls == [T.shape]


@pytest.mark.parametrize("size", [3, len(T)])
def test_a_subclass_that_takes_one_time_is_told_by_its_answer(size: int) -> None:
    """Where a row is as long as the batch, times would pass for a row without a word."""

    class Slower(MLPField):
        def forward(self, t: Tensor, x: Tensor, args: object = None) -> Tensor:
            return super().forward(t, x, args) - t * x

    field = Slower(size)
    x = torch.randn(len(T), size)
    torch.testing.assert_close(at_times(field, T, x), one_by_one(field, T, x))


def test_each_sample_draws_noise_of_its_own() -> None:
    def noisy(t: Tensor, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)

    value = at_times(noisy, T, torch.zeros(len(T), 3))
    assert len(value.unique()) == value.numel()
