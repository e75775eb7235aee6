"""The device's own random numbers: the CPU's generator in a state of the device's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_state = torch.Generator().manual_seed(0).get_state()


def seed(value: int) -> None:
    """Begin anew; what follows is what the CPU would draw from this seed."""
    set_state(torch.Generator().manual_seed(value).get_state())


def get_state() -> Tensor:
    """Return where the device's random numbers are."""
    return _state.clone()


def set_state(state: Tensor) -> None:
    """Go on from a state."""
    global _state
    _state = state.clone()


@contextmanager
def drawing_on_the_device() -> Iterator[None]:
    """Let the CPU's kernels draw the device's numbers; the CPU's own stay where they are."""
    own = torch.random.default_generator.get_state()
    torch.random.default_generator.set_state(_state)
    try:
        yield
    finally:
        set_state(torch.random.default_generator.get_state())
        torch.random.default_generator.set_state(own)
