"""Gradients that cannot be differentiated again, and say so."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.sensitivity.anchor import ANCHOR


class _Once(torch.autograd.Function):
    """Passes tensors on, and refuses to differentiate them."""

    @staticmethod
    def forward(ctx: Any, name: str, anchor: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            f"{ctx.name} computes first derivatives, and its gradient is asked to be "
            "differentiated once more: take DiscreteAdjoint(), which gives second derivatives."
        )


def once(name: str, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return gradients that refuse to be differentiated, where somebody keeps a graph of them.

    Args:
        name: Of what computed them.
        gradients: The gradients; ``None`` for what was not used.
    """
    if not torch.is_grad_enabled():
        return list(gradients)
    there = [gradient for gradient in gradients if gradient is not None]
    refusing = iter(_Once.apply(name, ANCHOR, *there)) if there else iter(())
    return [None if gradient is None else next(refusing) for gradient in gradients]
