"""Making a step again as it was: the random numbers that it drew, and the tensors it changed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from rnode_dyn.numerics.random_state import TorchRandomState


class Mark(NamedTuple):
    """What a step found when it was first made.

    Attributes:
        random: Where torch's random numbers stood.
        held: What the tensors that the field changes held.
    """

    random: TorchRandomState
    held: tuple[Tensor, ...]


class Replay:
    """Marks where steps began, and puts a field back there to make them again.

    Args:
        device: Where the solve runs.
        written: Tensors that the field changes, each with what it held before the first step.
        random: Where torch's random numbers stood then.
    """

    def __init__(
        self,
        device: torch.device,
        written: Sequence[tuple[Tensor, Tensor]],
        random: TorchRandomState,
    ) -> None:
        self.device = device
        self.tensors = [tensor for tensor, _ in written]
        self.marks = [Mark(random, tuple(before for _, before in written))]

    def mark(self) -> None:
        """Remember where the next step begins."""
        self.marks.append(self._now())

    def _now(self) -> Mark:
        random, last = TorchRandomState.now(self.device), self.marks[-1].random
        held = tuple(tensor.detach().clone() for tensor in self.tensors)
        # One object for a state that stays, so that a field that draws nothing costs nothing.
        return Mark(last if random.equals(last) else random, held)

    @property
    def draws(self) -> bool:
        """Whether random numbers were drawn between the marks."""
        return any(mark.random is not self.marks[0].random for mark in self.marks)

    @contextmanager
    def at(self, index: int) -> Iterator[None]:
        """Put everything as it was at a mark, and back when the steps from there have been made."""
        if not (self.draws or self.tensors):
            yield
            return
        now = self._now()
        self._put(self.marks[index])
        try:
            yield
        finally:
            self._put(now)

    def _put(self, mark: Mark) -> None:
        mark.random.put_back()
        for tensor, held in zip(self.tensors, mark.held, strict=True):
            # Through data: these are no changes that autograd must know of.
            tensor.data.copy_(held)
