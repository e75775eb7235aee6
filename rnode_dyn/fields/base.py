"""What a flow asks of a field, and how modules made for torchdyn answer it."""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


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
    if value.shape != x.shape:
        raise ValueError(
            f"the field returned shape {tuple(value.shape)} for a state of shape "
            f"{tuple(x.shape)}: it must return dx/dt, one value for every entry of x."
        )
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


def at_times(field: Callable, t: Tensor, x: Tensor) -> Tensor:
    """Return f(t_i, x_i) of every sample i at a time of its own.

    A field that says ``takes_times = True`` is called once, with ``t`` of shape ``(batch,)``; any
    other is mapped over the batch, and is called with a 0-dim time and one sample.

    Args:
        field: The field.
        t: Times, ``(batch,)``.
        x: States, ``(batch, *event)``.

    Example:
        >>> import torch
        >>> at_times(lambda t, x: t * x, torch.tensor([1.0, 2.0]), torch.ones(2, 3))
        tensor([[1., 1., 1.],
                [2., 2., 2.]])
    """
    if getattr(field, "takes_times", False):
        return field(t, x)

    def alone(time: Tensor, sample: Tensor) -> Tensor:
        return field(time, sample[None])[0]

    return torch.func.vmap(alone, randomness="different")(t, x)


class TorchdynField(nn.Module):
    """A module written for torchdyn, or plain torch, as a field f(t, x).

    Args:
        module: Takes ``(t, x)``, or ``(x)`` with the time reaching torchdyn's ``DepthCat`` layers.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.takes_time = _takes_time(module)
        self.takes_args = "args" in signature(module.forward).parameters
        self.takes_times = bool(getattr(module, "takes_times", False))

    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
        """Evaluate the field."""
        timed = _timed_parts(self.module)
        for part in timed:
            part.t = t
        try:
            given = (t, x) if self.takes_time else (x,)
            return self.module(*given, **({"args": args} if self.takes_args else {}))
        finally:
            # A time that is being differentiated must not outlive the derivative.
            for part in timed:
                part.t = None


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


def _takes_time(module: nn.Module) -> bool:
    """Whether the module is called with (t, x), whatever it calls them, and not with (x)."""
    accepted = signature(module.forward).parameters
    needed = [
        p
        for p in accepted.values()
        if p.kind in _POSITIONAL and p.default is p.empty and p.name != "args"
    ]
    return "t" in accepted or len(needed) >= 2


def _timed_parts(module: nn.Module) -> list[Any]:
    """The parts that torchdyn hands the time to, such as its ``DepthCat``."""
    return [part for part in module.modules() if hasattr(part, "t")]


def as_field(given: Callable) -> nn.Module:
    """Return ``given`` as a module that torchdyn and the flows can call as ``f(t, x, args=…)``."""
    if not isinstance(given, nn.Module):
        if not callable(given):
            raise TypeError(
                f"field is a {type(given).__name__}; write a module or a function f(t, x)."
            )
        return FunctionField(given)
    args = signature(given.forward).parameters.get("args")
    optional = args is not None and args.default is not args.empty
    if optional and _takes_time(given) and not _timed_parts(given):
        return given
    return DifferentiatedField(given) if hasattr(given, "value_and_vjp") else TorchdynField(given)
