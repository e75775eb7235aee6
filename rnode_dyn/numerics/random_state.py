"""The random state that a computation draws from: told, put back, and compared."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


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
        module = generators_of(device)
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
        module = generators_of(self.device)
        if module is not None:
            module.set_rng_state(self.states[1], self.device)


def generators_of(device: torch.device) -> Any:
    """Torch's module of a device that draws for itself; ``None`` for the CPU."""
    if device.type in ("cpu", "meta"):
        return None
    return torch.get_device_module(device.type)


def other_random_state() -> tuple[Any, ...]:
    """Where NumPy's and Python's random numbers stand, to be compared by :func:`same_state`."""
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002  # the state that others draw from
    return keys, position, random.getstate()


def same_state(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether nothing was drawn between two of them."""
    return one[1:] == other[1:] and np.array_equal(one[0], other[0])
