"""Operations that differentiate in a way of their own, and fields that are none."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from tests.contract.fields.case import (
    OWN_BACKWARD,
    REFUSED,
    Case,
    Made,
    Refused,
    of_module,
    randomized,
    start,
)
from tests.contract.fields.spellings import TimeFirst, function


class Squash(torch.autograd.Function):
    """A classic Function: its forward takes the context."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / torch.cosh(x).square()


class SquashOnce(Squash):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / torch.cosh(x).square()


class Through(TimeFirst):
    """A field with one operation of another kind at its end."""

    def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.end = last

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.end(x @ self.mix + torch.sin(2 * t) * self.shift)


class Checkpointed(TimeFirst):
    """Keeps no activations, as torch.utils.checkpoint does it."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return checkpoint(self.at, t, x, use_reentrant=self.reentrant)


class FloatTime(TimeFirst):
    """Reads a number off the time, as one writes who comes from NumPy."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.mix) * (1 + math.sin(float(t)))


class Branches(TimeFirst):
    """Decides by the time which of two it is."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.at(t, x) if t < 10 else -x


class Inner(TimeFirst):
    """The gradient of a potential, got by autograd within the field."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_()
            potential = (self.at(t, at) ** 2).sum()
            return -torch.autograd.grad(potential, at, create_graph=True)[0]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(2, 1, batch_first=True)
        randomized(self)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.attend(x, x, x, need_weights=False)[0] * (1 + t)


class Math(Attention):
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return super().forward(t, x)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(2, 2)
        randomized(self)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.cell(torch.sin(t + x), x) - x


def _returns(change: Callable[[Tensor], Any]) -> Callable[[], Made]:
    def make() -> Made:
        return Made(lambda t, x: change(function(t, x)), function, start())

    return make


def _writes(write: Callable[[Tensor], Any]) -> Callable[[], Made]:
    def field(t: Tensor, x: Tensor) -> Tensor:
        write(x)
        return function(t, x)

    return lambda: Made(field, function, start())


def _to_zero(x: Tensor) -> None:
    x[:, 0] = 0.0


def _more() -> Made:
    return Made(lambda t, x, speed: speed * x, lambda t, x: x, start())


UNUSUAL = (
    Case("classic `autograd.Function`", lambda: of_module(Through(Squash.apply))),
    Case(
        "`once_differentiable` Function",
        lambda: of_module(Through(SquashOnce.apply)),
        Refused(flow=True),
    ),
    Case("`checkpoint(use_reentrant=False)`", lambda: of_module(Checkpointed(False))),
    Case(
        "`checkpoint(use_reentrant=True)`",
        lambda: of_module(Checkpointed(True)),
        Refused(by=OWN_BACKWARD, flow=True),
    ),
    Case("reads `float(t)`", lambda: of_module(FloatTime()), Refused(along=True)),
    Case("branches by the time", lambda: of_module(Branches())),
    Case("gradient of a potential", lambda: of_module(Inner())),
    Case("attention", lambda: of_module(Attention(), x=start(2, 2)), Refused(flow=True)),
    Case("attention by `SDPBackend.MATH`", lambda: of_module(Math(), x=start(2, 2))),
    Case("`GRUCell`", lambda: of_module(Gated())),
    Case(
        "in-place activation within", lambda: of_module(Through(lambda a: F.silu(a, inplace=True)))
    ),
    Case("returns a tuple", _returns(lambda f: (f, f)), REFUSED),
    Case("returns `None`", _returns(lambda f: None), REFUSED),
    Case("returns an array", _returns(lambda f: f.detach().numpy()), REFUSED),
    Case("returns another precision", _returns(lambda f: f.float()), REFUSED),
    Case("returns one value a sample", _returns(lambda f: f.sum(1, keepdim=True)), REFUSED),
    Case("returns no batch", _returns(lambda f: f.sum(0)), REFUSED),
    Case("writes into the state", _writes(lambda x: x.mul_(0.9)), REFUSED),
    Case("writes one entry of the state", _writes(_to_zero), REFUSED),
    Case("in-place activation of the state", _writes(lambda x: F.silu(x, inplace=True)), REFUSED),
    Case("asks for more than a time and a state", _more, REFUSED),
)
