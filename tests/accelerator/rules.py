"""What an accelerator refuses and what makes the host wait, told from an operation's arguments."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_ATEN = torch.ops.aten
_COPIES = (_ATEN.copy_.default, _ATEN._to_copy.default)
# These take a number of the host as well, where they are given it as a 0-dim tensor.
_TAKE_NUMBERS = {
    _ATEN.fill_.Tensor,
    _ATEN.masked_fill.Tensor,
    _ATEN.masked_fill_.Tensor,
    _ATEN.index_put.default,
    _ATEN.index_put_.default,
    _ATEN._index_put_impl_.default,
}
# Pointwise, and yet CUDA takes no number of the host here.
_TAKE_NONE = {_ATEN.lerp.Tensor, _ATEN.lerp_.Tensor}


def tensors_in(given: Any) -> Iterator[Tensor]:
    """Yield the tensors among arguments, lists of them included."""
    for value in given:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def refuse_mixture(func: Any, args: tuple, kwargs: dict) -> None:
    """Raise where a tensor of the CPU stands beside one of the device.

    CUDA would take an index of the CPU's, and wait while it is copied: here it is refused as well.
    """
    if func in _COPIES:
        return
    takes_numbers = func not in _TAKE_NONE and (
        torch.Tag.pointwise in func.tags or func in _TAKE_NUMBERS
    )
    for tensor in tensors_in((*args, *kwargs.values())):
        if tensor.device.type == "cpu" and not (takes_numbers and tensor.dim() == 0):
            raise RuntimeError(
                f"{func}: expected all tensors to be on the same device, but found accel:0 and "
                f"cpu, a tensor of shape {tuple(tensor.shape)}."
            )


def refuse_foreign_generator(args: tuple, kwargs: dict) -> None:
    """Raise where the device shall draw from the CPU's generator."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Generator) and value.device.type == "cpu":
            raise RuntimeError("expected a generator of accel, but found one of cpu.")


def reads(func: Any, args: tuple) -> bool:
    """Whether the host has to know values before it can go on; copies are told apart elsewhere."""
    if func is _ATEN.index.Tensor:
        return _has_mask(args[1])
    if func in (_ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default):
        # One value under a mask is filled in without asking how many there are.
        return _has_mask(args[1]) and args[2].numel() != 1
    if func is _ATEN._linalg_check_errors.default:
        return True
    tags = func.tags
    return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags


def _has_mask(indices: list[Tensor | None]) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
