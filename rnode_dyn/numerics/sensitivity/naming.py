"""What a tensor is called within a field, for telling people which one is meant."""

import functools
from collections.abc import Callable, Iterator
from inspect import getclosurevars, isfunction, ismethod
from typing import Any

from torch import Tensor, nn


def described(tensor: Tensor, field: Callable) -> str:
    """Return a tensor's shape, and the name that it has within a field, where it has one.

    Example:
        >>> import torch
        >>> rate = torch.ones(3)
        >>> described(rate, lambda t, x: -rate * x)
        'a tensor of shape (3,) (rate)'
    """
    name = next((name for name, held in _held_by(field) if held is tensor), None)
    return f"a tensor of shape {tuple(tensor.shape)}" + ("" if name is None else f" ({name})")


def _held_by(owner: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """What an owner holds, by name: attributes, what it closes over or is bound to."""
    if depth == 0:
        return
    if isinstance(owner, functools.partial):
        yield from _held_by(owner.func, depth)
        yield from owner.keywords.items()
        yield from ((f"argument {i}", value) for i, value in enumerate(owner.args))
    elif ismethod(owner):
        yield from _held_by(owner.__self__, depth)
    elif isfunction(owner):
        variables = getclosurevars(owner)
        yield from _named({**variables.globals, **variables.nonlocals}, depth)
    elif isinstance(owner, nn.Module):
        for prefix, module in owner.named_modules():
            own = {**vars(module), **module._parameters, **module._buffers}
            yield from ((f"{prefix}.{name}".lstrip("."), held) for name, held in _named(own, depth))
    elif hasattr(owner, "__dict__"):
        yield from _named(vars(owner), depth)


def _named(values: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, list | tuple):
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(value))
        elif isinstance(value, nn.Module) or callable(value):
            yield from ((f"{name}.{inner}", held) for inner, held in _held_by(value, depth - 1))
