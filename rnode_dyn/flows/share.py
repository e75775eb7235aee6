"""The noise of a step that is taken in parts: each part takes its rows of what one would draw."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor

from rnode_dyn.numerics.random_state import TorchRandomState
from rnode_dyn.numerics.seeding import random_state_kept, reseed
from rnode_dyn.numerics.transforms import is_batched

Noise = TypeVar("Noise", bound=Tensor | None)
Drawn = TypeVar("Drawn")


@dataclass
class Share:
    """Which rows of a step's whole batch are here.

    Attributes:
        start: The first row.
        size: How many rows.
        whole: Rows of the whole batch, over all processes and accumulated parts.
        seed: What the noise of the whole batch is drawn from; ``None``: each part draws its own.

    Example:
        >>> share = Share(start=2, size=2, whole=4, seed=7)
        >>> with sharing(share):
        ...     part = drawn(torch.randn_like, torch.zeros(2, 3))
        >>> _ = torch.manual_seed(7)
        >>> torch.equal(part, torch.randn(4, 3)[2:])
        True
    """

    start: int
    size: int
    whole: int
    seed: int | None = None
    _state: TorchRandomState | None = field(default=None, repr=False)

    @property
    def fraction(self) -> float:
        """The part's weight in a mean over the whole batch."""
        return self.size / self.whole

    def draw(self, make: Callable[[Tensor], Noise], like: Tensor, axis: int) -> Noise:
        """Draw for the whole batch, and return a copy of this part's rows.

        Raises:
            ValueError: where what is drawn has no axis of the batch, so that nothing can be taken.
        """
        noise = self.draw_in_common(lambda: make(like.new_empty(self.whole, *like.shape[1:])), like)
        if noise is None:
            return noise
        if noise.shape[axis] != self.whole:
            raise ValueError(
                f"noise of shape {tuple(noise.shape)} was drawn for {self.whole} samples, of which "
                f"{self.size} are here: axis {axis} must be the samples', to take theirs."
            )
        # A copy: a view would keep the whole batch's noise as long as the graph lives.
        return cast(Noise, noise.narrow(axis, self.start, self.size).clone())

    def draw_in_common(self, make: Callable[[], Drawn], like: Tensor) -> Drawn:
        """Draw what is the same in every part."""
        with self._common_stream(like.device):
            return make()

    @contextmanager
    def _common_stream(self, device: torch.device) -> Iterator[None]:
        """Draw from the stream that all parts have in common, and leave the own one as it was."""
        with random_state_kept(device):
            if self._state is None:
                assert self.seed is not None  # drawn() asks
                reseed(device, self.seed)
            else:
                self._state.put_back()
            yield
            self._state = TorchRandomState.now(device)


_current: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Let noise be drawn for the whole of a batch of which these rows are here."""
    token = _current.set(share)
    try:
        yield
    finally:
        _current.reset(token)


def drawn(make: Callable[[Tensor], Noise], like: Tensor, axis: int | None = None) -> Noise:
    """Draw noise for states, whatever part of a step's batch they are.

    Where a step is shared by processes or taken in parts, the noise of its whole batch is drawn
    in each and the rows of those states are taken: it is the noise of one process that takes the
    step at once. That costs the drawing of the whole batch in every part. Rows that are no share
    (of another number) get noise of their own.

    Args:
        make: Draws for states like its argument, of which it uses the shape, dtype and device; or
            returns nothing.
        like: The states, ``(batch, *event)``.
        axis: Which axis of the noise is the samples'; left out, the one that stands before the
            event's.
    """
    share = _share_of(like)
    if share is None:
        return make(like)
    return share.draw(make, like, -like.dim() if axis is None else axis)


def drawn_fractions(like: Tensor, count: int) -> Tensor:
    """Draw numbers from 0 to 1 for the times of one solve, the same for the whole step.

    They are on the CPU, in float64: reading a time off a GPU would wait for it.

    Args:
        like: The states, ``(batch, *event)``.
        count: How many.

    Raises:
        RuntimeError: within ``vmap``, where each entry would have times of its own.
    """

    def make() -> Tensor:
        return torch.rand(count, dtype=torch.float64, device="cpu")

    share = _share_of(like)
    found = make() if share is None else share.draw_in_common(make, like)
    if is_batched(found):
        raise RuntimeError(
            'times are drawn for a whole solve, and vmap(randomness="different") has others for '
            'each entry: write randomness="same".'
        )
    return found


def _share_of(like: Tensor) -> Share | None:
    """The share that states are, where others draw for the same step."""
    share = _current.get()
    if share is None or share.seed is None or share.size == share.whole:
        return None
    return share if len(like) == share.size else None
