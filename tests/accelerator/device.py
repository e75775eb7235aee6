"""Registering the device with torch: its module ``torch.accel``, and how tensors are made on it."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration

from tests.accelerator import stream
from tests.accelerator.autocast import register_autocast
from tests.accelerator.tensor import NAME, run

_ATEN = torch.ops.aten
_LIBRARY = torch.library.Library("aten", "IMPL")
# All others are made of these, and of operations that write into what they made.
_FACTORIES = (
    _ATEN.empty.memory_format,
    _ATEN.empty_strided.default,
    _ATEN.arange.default,
    _ATEN.arange.start,
    _ATEN.arange.start_step,
    _ATEN.eye.default,
    _ATEN.eye.m,
    _ATEN.linspace.default,
    _ATEN.logspace.default,
    _ATEN.randperm.default,
    _ATEN.randperm.generator,
    _ATEN.tril_indices.default,
    _ATEN.triu_indices.default,
)


class AccelModule:
    """``torch.accel``: what torch asks a device's module for."""

    def is_initialized(self) -> bool:
        """It needs no preparation."""
        return True

    def is_available(self) -> bool:
        """It is always there."""
        return True

    def device_count(self) -> int:
        """There is one."""
        return 1

    def current_device(self) -> int:
        """It is the first."""
        return 0

    def synchronize(self, device: Any = None) -> None:
        """It never runs behind."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Return what autocast may compute in."""
        return [torch.bfloat16, torch.float16]

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed(self, seed: int) -> None:
        """Seed the device."""
        stream.seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed all devices: the one."""
        stream.seed(seed)

    def get_rng_state(self, device: Any = NAME) -> Tensor:
        """Return the state of the device's random numbers, a tensor of the CPU."""
        return stream.get_state()

    def set_rng_state(self, new_state: Tensor, device: Any = NAME) -> None:
        """Set it."""
        stream.set_state(new_state)


def can_register() -> bool:
    """Whether this torch can have a device that is written in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


@cache
def register() -> torch.device:
    """Register the device, for the rest of this process; it must come before any backward pass.

    Autograd starts its threads, one for each device, at the first backward pass.
    """
    backend_registration._setup_privateuseone_for_python_backend(NAME, AccelModule())
    for func in _FACTORIES:
        _LIBRARY.impl(func, _made_by(func), "PrivateUse1")
    _LIBRARY.impl(_ATEN._efficientzerotensor.default, _zeros, "PrivateUse1")
    _LIBRARY.impl(_ATEN._copy_from.default, _copied, "PrivateUse1")
    register_autocast(NAME)
    return torch.device(NAME, 0)


def _copied(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Copy to the device; ``torch.tensor(…, device=…)`` does so behind the dispatcher's back."""
    _ATEN.copy_.default(target.inner, source)  # type: ignore[attr-defined]
    return target


def _zeros(size: Any, **kwargs: Any) -> Any:
    """Forward-mode derivatives that are zero, here with a memory like any other tensor."""
    return run(_ATEN.zeros.default, (size,), {**kwargs, "device": NAME}, torch.device(NAME, 0))


def _made_by(func: Any) -> Any:
    def made(*args: Any, **kwargs: Any) -> Any:
        return run(func, args, {**kwargs, "device": NAME}, torch.device(NAME, 0))

    return made
