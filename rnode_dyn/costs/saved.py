"""Counting the tensors that autograd keeps for the backward pass."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class _Kept:
    """What autograd holds in a tensor's place; it goes when the graph lets go."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedTensors:
    """Within this context, counts what autograd keeps: each piece of memory once.

    Args:
        besides: Tensors that are there anyway, such as parameters: their memory is not counted.
        measure: What a piece of memory counts for, given a tensor in it; its bytes when left out.

    Attributes:
        now: What is kept at this moment.
        peak: The most that was kept at once.

    Example:
        >>> x = torch.ones(10, requires_grad=True)
        >>> with SavedTensors() as saved:
        ...     y = x.exp().exp()
        >>> saved.now  # both results, of ten numbers of four bytes
        80
    """

    def __init__(
        self, besides: Iterable[Tensor] = (), measure: Callable[[Tensor], int] | None = None
    ) -> None:
        self.now = self.peak = 0
        self._measure = _bytes_of if measure is None else measure
        self._besides = {_memory_of(tensor) for tensor in besides}
        self._holders: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def __enter__(self) -> "SavedTensors":
        """Begin to count."""
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Count nothing that is saved from now on; what is let go still counts down."""
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> _Kept:
        kept, memory = _Kept(tensor.detach()), _memory_of(tensor)
        if memory not in self._besides:
            size = self._measure(tensor)
            if self._holders.setdefault(memory, 0) == 0:
                self.now += size
                self.peak = max(self.peak, self.now)
            self._holders[memory] += 1
            weakref.finalize(kept, self._let_go, memory, size)
        return kept

    def _unpack(self, kept: _Kept) -> Tensor:
        return kept.tensor

    def _let_go(self, memory: int, size: int) -> None:
        self._holders[memory] -= 1
        if self._holders[memory] == 0:
            self.now -= size


def _memory_of(tensor: Tensor) -> int:
    """Tell one piece of memory from another, also on the meta device, where there is none."""
    return tensor.untyped_storage()._cdata


def _bytes_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
