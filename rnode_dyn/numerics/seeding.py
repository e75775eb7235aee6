"""Drawing from a seed, and leaving everybody else's random numbers as they were."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from rnode_dyn.numerics.random_state import TorchRandomState, generators_of


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Let the CPU and a device draw what they will, and put their random states back.

    Args:
        device: The other device that draws, of any kind.

    Example:
        >>> with random_state_kept(torch.device("cpu")):
        ...     inside = torch.rand(2)
        >>> torch.equal(torch.rand(2), inside)
        True
    """
    before = TorchRandomState.now(device)
    try:
        yield
    finally:
        before.put_back()


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Draw from a seed on the CPU and a device, and put their random states back."""
    with random_state_kept(device):
        reseed(device, seed)
        yield


def reseed(device: torch.device, seed: int) -> None:
    """Seed the CPU and a device; ``torch.manual_seed`` would seed every other device as well.

    Example:
        >>> reseed(torch.device("cpu"), 3)
        >>> first = torch.rand(2)
        >>> bool((torch.manual_seed(3), torch.equal(torch.rand(2), first))[1])
        True
    """
    torch.default_generator.manual_seed(seed)
    module = generators_of(device)
    if module is None:
        return
    with _current(module, device):
        module.manual_seed(seed)


def _current(module: Any, device: torch.device) -> AbstractContextManager:
    """Make one of several devices of a kind the current one, which is the one that is seeded."""
    return module.device(device) if hasattr(module, "device") else nullcontext()
