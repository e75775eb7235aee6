"""The random state that a computation draws from: told, put back, and compared."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def cuda_devices_of(device: torch.device) -> list[torch.device]:
    """Return the devices whose random state a computation on ``device`` draws from.

    Example:
        >>> cuda_devices_of(torch.device("cpu"))
        []
    """
    return [device] if device.type == "cuda" else []


@dataclass(frozen=True, eq=False)
class TorchRandomState:
    """Where torch's random numbers stand, on the CPU and on one device.

    Example:
        >>> before = TorchRandomState.now(torch.device("cpu"))
        >>> drawn = torch.rand(2)
        >>> before.is_now(), before.put_back(), torch.equal(torch.rand(2), drawn)
        (False, None, True)
    """

    device: torch.device
    states: tuple[Tensor, ...]

    @classmethod
    def now(cls, device: torch.device) -> "TorchRandomState":
        """Return the state at this moment."""
        module = _generators_of(device)
        own = () if module is None else (module.get_rng_state(device),)
        return cls(device, (torch.get_rng_state(), *own))

    def equals(self, other: "TorchRandomState") -> bool:
        """Whether nothing was drawn between the two."""
        return all(map(torch.equal, self.states, other.states))

    def is_now(self) -> bool:
        """Whether nothing has been drawn since."""
        return self.equals(TorchRandomState.now(self.device))

    def put_back(self) -> None:
        """Let torch draw from here again."""
        torch.set_rng_state(self.states[0])
        module = _generators_of(self.device)
        if module is not None:
            module.set_rng_state(self.states[1], self.device)


def _generators_of(device: torch.device) -> Any:
    """Torch's module of a device that draws for itself; ``None`` for the CPU."""
    if device.type in ("cpu", "meta"):
        return None
    return torch.get_device_module(device.type)


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Draw torch's random numbers from a seed, and leave their state as it was.

    Example:
        >>> cpu = torch.device("cpu")
        >>> with drawing_from(3, cpu):
        ...     one = torch.rand(2)
        >>> with drawing_from(3, cpu):
        ...     print(torch.equal(torch.rand(2), one))
        True
    """
    before, module = TorchRandomState.now(device), _generators_of(device)
    torch.default_generator.manual_seed(seed)
    if module is not None:
        module.manual_seed(seed)
    try:
        yield
    finally:
        before.put_back()


def other_random_state() -> tuple[Any, ...]:
    """Where NumPy's and Python's random numbers stand, to be compared by :func:`same_state`."""
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002  # the state that others draw from
    return keys, position, random.getstate()


def same_state(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether nothing was drawn between two of them."""
    return one[1:] == other[1:] and np.array_equal(one[0], other[0])
