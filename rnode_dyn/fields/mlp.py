"""A field on vectors."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn.fields.condition import embedding_for
from rnode_dyn.fields.conditioned import Prepared
from rnode_dyn.fields.feedforward import FeedForwardField, TimeLayer
from rnode_dyn.numerics.numbers import whole


class TimeLinear(TimeLayer):
    """A linear layer on (t, x, c), the weights of time and condition apart from the state's."""

    def __init__(self, inputs: int, outputs: int, condition: int = 0) -> None:
        super().__init__()
        whole = nn.Linear(inputs + 1 + condition, outputs)
        time, state, rest = whole.weight.detach().split([1, inputs, condition], dim=1)
        self.weight = nn.Parameter(state.clone())
        self.time_weight = nn.Parameter(time[:, 0].clone())
        self.bias = nn.Parameter(whole.bias.detach())
        self.condition_weight = nn.Parameter(rest.clone()) if condition else None

    def forward(self, t: Tensor, x: Tensor, shift: Tensor | None = None) -> Tensor:
        """Apply the layer to ``x`` (batch, inputs)."""
        if t.dim():
            y = F.linear(x, self.weight, self.bias) + t[:, None] * self.time_weight
        else:
            y = F.linear(x, self.weight, torch.addcmul(self.bias, self.time_weight, t))
        return y if shift is None else y + shift

    def transpose(self, v: Tensor) -> Tensor:
        """Return vᵀ W for ``v`` (batch, outputs)."""
        return v @ self.weight

    def shift(self, condition: Tensor) -> Tensor:
        """Return what to add for embedded conditions, ``(batch, outputs)``."""
        assert self.condition_weight is not None
        return F.linear(condition, self.condition_weight)


class MLPField(FeedForwardField):
    """A multilayer perceptron f(t, x) or f(t, x, condition), time an input of every layer.

    Args:
        dim: Size of the state, ``x`` being ``(batch, dim)``; or the shape of a sample, which is
            taken as one vector.
        hidden: Widths of the hidden layers.
        activation: ``softplus``, ``tanh``, ``elu``, ``silu`` or ``sigmoid``.
        condition: Numbers in a condition ``(batch, condition)``, an input of every layer too.
        classes: Classes, where conditions are labels ``(batch,)`` from 0 to ``classes`` − 1.
        embedding: Width of what the condition is embedded in, see
            :class:`~rnode_dyn.ConditionEmbedding`.
        label_dropout: How probably a training sample's label is left out, likewise.

    Example:
        >>> import torch
        >>> field = MLPField(2, hidden=(16, 16))
        >>> field(torch.tensor(0.5), torch.zeros(3, 2)).shape
        torch.Size([3, 2])
        >>> field = MLPField(2, hidden=(16, 16), condition=5)
        >>> field(torch.tensor(0.5), torch.zeros(3, 2), torch.zeros(3, 5)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        dim: int | Sequence[int],
        hidden: Sequence[int] = (64, 64, 64),
        activation: str = "softplus",
        condition: int | None = None,
        classes: int | None = None,
        embedding: int | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        shape = tuple(dim) if isinstance(dim, Sequence) else (whole("MLPField", "dim", dim),)
        size = math.prod(shape)
        embeds = embedding_for(condition, classes, embedding, label_dropout)
        width = 0 if embeds is None else embeds.width
        widths = [size, *hidden, size]
        super().__init__([TimeLinear(i, o, width) for i, o in pairwise(widths)], activation, embeds)
        self.dim = shape

    takes_times = True
    prepare = FeedForwardField.prepare

    def forward(
        self,
        t: Tensor,
        x: Tensor,
        condition: Tensor | Prepared | None = None,
        args: Any = None,
    ) -> Tensor:
        """Evaluate the field; a sample of any shape is read as one vector."""
        return super().forward(t, x.flatten(1), condition).view_as(x)

    def value_and_vjp(
        self, t: Tensor, x: Tensor, v: Tensor, condition: Tensor | Prepared | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return f(t, x) and vᵀ ∂f/∂x."""
        value, product = super().value_and_vjp(t, x.flatten(1), v.flatten(1), condition)
        return value.view_as(x), product.view_as(x)
