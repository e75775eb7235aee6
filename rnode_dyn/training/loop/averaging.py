"""Averaged weights: `train.ema` of what is learned, and nothing of what stays as it is."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """An exponential moving average of weights and statistics, updated after every step.

    torch's own average, decay · a + (1 − decay) · b, rounds: constants among a module's buffers
    drift away from themselves, and whole numbers, such as indices, are cut off to smaller ones.

    Args:
        decay: What the average keeps of itself at each step, from 0 to 1.
        warm_up: Whether step n keeps (1 + n)/(10 + n) where that is less, as TensorFlow's average
            does by ``num_updates``: a training of fewer steps than 1/(1 − decay) is then no mean
            with the weights that it began with.
    """

    def __init__(self, decay: float, warm_up: bool = False) -> None:
        def average(averaged: Any, current: Any, steps: Tensor | int) -> None:
            taken = share_of(decay, steps) if warm_up else 1 - decay
            move(averaged, current, torch.as_tensor(taken))

        super().__init__(multi_avg_fn=average)


def share_of(decay: float, steps: Tensor | int) -> Tensor | float:
    """Return what an average that warms up takes of the weights after so many steps.

    Example:
        >>> share_of(0.99, 0), share_of(0.99, 10), round(share_of(0.99, 5000), 2)
        (0.9, 0.45, 0.01)
    """
    taken = 9 / (10 + steps)
    return taken.clamp(min=1 - decay) if isinstance(taken, Tensor) else max(taken, 1 - decay)


@torch.no_grad()
def move(averaged: Sequence[Tensor], current: Sequence[Tensor], share: Tensor) -> None:
    """Move averages towards what is current, in place; where both are the same, it stays so.

    Example:
        >>> masks, whole = torch.tensor([0.0, -torch.inf]), torch.tensor([3])
        >>> move([masks, whole], [masks.clone(), torch.tensor([4])], torch.tensor(0.001))
        >>> masks, whole
        (tensor([0., -inf]), tensor([4]))
    """
    for own, other in zip(averaged, current, strict=True):
        if own.is_floating_point() or own.is_complex():
            moved = own.lerp(other, share.to(own.dtype))
            own.copy_(torch.where(own == other, own, moved))
        else:
            own.copy_(other)
