"""Smooth activations with their derivatives, for vector-Jacobian products written by hand.

Only smooth ones: the divergence differentiates the field once, and its gradient twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Activation:
    """A function and its derivative, both elementwise."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def _tanh_derivative(a: Tensor) -> Tensor:
    return 1 - torch.tanh(a).square()


def _sigmoid_derivative(a: Tensor) -> Tensor:
    s = torch.sigmoid(a)
    return s * (1 - s)


def _silu_derivative(a: Tensor) -> Tensor:
    s = torch.sigmoid(a)
    return s * (1 + a * (1 - s))


def _elu_derivative(a: Tensor) -> Tensor:
    return torch.exp(a.clamp(max=0.0))


ACTIVATIONS = {
    "softplus": Activation(F.softplus, torch.sigmoid),
    "tanh": Activation(torch.tanh, _tanh_derivative),
    "elu": Activation(F.elu, _elu_derivative),
    "silu": Activation(F.silu, _silu_derivative),
    "sigmoid": Activation(torch.sigmoid, _sigmoid_derivative),
}


def activation(name: str) -> Activation:
    """Return the activation of this name.

    Raises:
        ValueError: if there is none.

    Example:
        >>> import torch
        >>> float(activation("softplus").derivative(torch.zeros(())))
        0.5
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}; write one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]
