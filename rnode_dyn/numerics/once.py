"""Gradients that cannot be differentiated again, and say so."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _Once(torch.autograd.Function):
    """Passes gradients on, as a function of what they belong to, and refuses to go further."""

    @staticmethod
    def forward(
        ctx: Any, name: str, instead: str, inputs: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.name, ctx.instead = name, instead
        return tuple(gradient.view_as(gradient) for gradient in tensors[inputs:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            f"{ctx.name} computes first derivatives, and its gradient is asked to be "
            f"differentiated once more: {ctx.instead}."
        )


def once(
    name: str,
    gradients: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    instead: str = "take DiscreteAdjoint(), which gives second derivatives",
) -> list[Tensor | None]:
    """Return gradients that refuse to be differentiated, where somebody keeps a graph of them.

    Args:
        name: Of what computed them.
        gradients: The gradients; ``None`` for what was not used.
        inputs: What they depend on, so that whoever differentiates by one comes by here.
        instead: What to do for second derivatives.
    """
    there = [gradient for gradient in gradients if gradient is not None]
    if not (torch.is_grad_enabled() and there):
        return list(gradients)
    refusing = iter(_Once.apply(name, instead, len(inputs), *inputs, *there))
    return [None if gradient is None else next(refusing) for gradient in gradients]
