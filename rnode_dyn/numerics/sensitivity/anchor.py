"""Tensors that autograd records from, and that nobody's gradient ends in."""

from typing import Any

import torch
from torch import Tensor

# The one leaf behind them all, by which they are told from the leaves of others.
ANCHOR = torch.zeros((), requires_grad=True)


class _Anchored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, anchor: Tensor) -> Tensor:
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None]:
        return None, None


def recorded(tensor: Tensor) -> Tensor:
    """Return an alias of a tensor that can be differentiated by, cut off from the rest.

    Example:
        >>> import torch
        >>> x = recorded(torch.ones(2))
        >>> torch.autograd.grad((3 * x).sum(), x)[0]
        tensor([3., 3.])
    """
    return _Anchored.apply(tensor.detach(), ANCHOR)
