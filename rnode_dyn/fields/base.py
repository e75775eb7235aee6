"""What a flow asks of a field, and how modules made for torchdyn answer it."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn


def value_and_vjp(field: Callable, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return f(t, x) and vᵀ ∂f/∂x, by the field's own product where it offers one.

    Args:
        field: The field; its ``value_and_vjp(t, x, v)`` is used if it has one.
        t: Time, 0-dim.
        x: State, ``(batch, *event)``.
        v: Cotangent, like ``x``.

    Example:
        >>> import torch
        >>> x, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
        >>> value_and_vjp(lambda t, x: x**2, torch.zeros(()), x, v)
        (tensor([[1., 4.]]), tensor([[2., 0.]]))
    """
    own = getattr(field, "value_and_vjp", None)
    if own is not None:
        return own(t, x, v)
    value, pull_back, *_ = torch.func.vjp(lambda state: field(t, state), x)
    return value, pull_back(v)[0]


def jvp(field: Callable, t: Tensor, x: Tensor, dt: Tensor, dx: Tensor) -> Tensor:
    """Return ∂f/∂t · dt + ∂f/∂x · dx at (t, x).

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> jvp(lambda t, x: t * x, torch.tensor(3.0), x, torch.tensor(1.0), torch.ones(1, 2))
        tensor([[4., 5.]])
    """
    return torch.func.jvp(field, (t, x), (dt, dx))[1]


class TorchdynField(nn.Module):
    """A module written for torchdyn, or plain torch, as a field f(t, x).

    Args:
        module: Takes ``(t, x)``, or ``(x)`` with the time reaching torchdyn's ``DepthCat`` layers.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.takes_time = "t" in signature(module.forward).parameters

    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:  # torchdyn's
        """Evaluate the field."""
        if self.takes_time:
            return self.module(t, x)
        for part in self.module.modules():
            if hasattr(part, "t"):
                part.t = t
        return self.module(x)


class DifferentiatedField(TorchdynField):
    """A module that brings its own vector-Jacobian product."""

    def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(t, x) and vᵀ ∂f/∂x."""
        return self.module.value_and_vjp(t, x, v)  # type: ignore[operator]


class FunctionField(nn.Module):
    """A plain function f(t, x) as a field without parameters."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:  # torchdyn's
        """Evaluate the field."""
        return self.function(t, x)


def as_field(given: Callable) -> nn.Module:
    """Return ``given`` as a module that torchdyn and the flows can call as ``f(t, x, args=…)``."""
    if not isinstance(given, nn.Module):
        if not callable(given):
            raise TypeError(
                f"field is a {type(given).__name__}; write a module or a function f(t, x)."
            )
        return FunctionField(given)
    accepted = signature(given.forward).parameters
    if {"t", "args"} <= accepted.keys():
        return given
    return DifferentiatedField(given) if hasattr(given, "value_and_vjp") else TorchdynField(given)
