"""Autocast on the device: matrix products and convolutions in low precision, all else as it is."""

from typing import Any

import torch
from torch import Tensor

_ATEN = torch.ops.aten
_IN_LOW_PRECISION = (
    _ATEN.linear.default,
    _ATEN.matmul.default,
    _ATEN.mm.default,
    _ATEN.bmm.default,
    _ATEN.addmm.default,
    _ATEN.baddbmm.default,
    _ATEN.conv2d.default,
    _ATEN.conv_transpose2d.input,
)
_KEY = "AutocastPrivateUse1"
_LIBRARIES: list[torch.library.Library] = []


def register_autocast(device_type: str) -> None:
    """Say what autocast does to operations on the device."""
    others, ours = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, _KEY)
    for func in _IN_LOW_PRECISION:
        ours.impl(func, _in_low_precision(func, device_type), _KEY)
    _LIBRARIES.extend([others, ours])


def _in_low_precision(func: Any, device_type: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        dtype = torch.get_autocast_dtype(device_type)
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(_KEY)):
            return func(*(_cast(value, dtype) for value in args), **kwargs)

    return call


def _cast(value: Any, dtype: torch.dtype) -> Any:
    wanted = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if wanted and value.dtype is not torch.float64 else value
