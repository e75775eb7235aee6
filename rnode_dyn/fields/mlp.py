"""A field on vectors."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn.fields.feedforward import FeedForwardField, TimeLayer
from rnode_dyn.numerics.numbers import whole


class TimeLinear(TimeLayer):
    """A linear layer on (t, x), the weight of time kept apart from that of the state."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        whole = nn.Linear(inputs + 1, outputs)
        self.weight = nn.Parameter(whole.weight[:, 1:].detach().clone())
        self.time_weight = nn.Parameter(whole.weight[:, 0].detach().clone())
        self.bias = nn.Parameter(whole.bias.detach())

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Apply the layer to ``x`` (batch, inputs)."""
        if t.dim():
            return F.linear(x, self.weight, self.bias) + t[:, None] * self.time_weight
        return F.linear(x, self.weight, torch.addcmul(self.bias, self.time_weight, t))

    def transpose(self, v: Tensor) -> Tensor:
        """Return vᵀ W for ``v`` (batch, outputs)."""
        return v @ self.weight


class MLPField(FeedForwardField):
    """A multilayer perceptron f(t, x), time an input of every layer.

    Args:
        dim: Size of the state, ``x`` being ``(batch, dim)``; or the shape of a sample, which is
            taken as one vector.
        hidden: Widths of the hidden layers.
        activation: ``softplus``, ``tanh``, ``elu``, ``silu`` or ``sigmoid``.

    Example:
        >>> import torch
        >>> field = MLPField(2, hidden=(16, 16))
        >>> field(torch.tensor(0.5), torch.zeros(3, 2)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        dim: int | Sequence[int],
        hidden: Sequence[int] = (64, 64, 64),
        activation: str = "softplus",
    ) -> None:
        size = math.prod(dim) if isinstance(dim, Sequence) else whole("MLPField", "dim", dim)
        widths = [size, *hidden, size]
        super().__init__([TimeLinear(i, o) for i, o in pairwise(widths)], activation)

    takes_times = True

    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
        """Evaluate the field; a sample of any shape is read as one vector."""
        return super().forward(t, x.flatten(1), args).view_as(x)

    def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(t, x) and vᵀ ∂f/∂x."""
        value, product = super().value_and_vjp(t, x.flatten(1), v.flatten(1))
        return value.view_as(x), product.view_as(x)
