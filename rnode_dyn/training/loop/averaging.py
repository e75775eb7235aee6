"""Averaged weights: `train.ema` of what is learned, and nothing of what stays as it is."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from rnode_dyn.numerics.numbers import truth


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
        warms_up = truth("MovingAverage", "warm_up", warm_up)

        def average(averaged: Any, current: Any, steps: Tensor | int) -> None:
            # All are of one device and precision.
            like = averaged[0]
            if not (like.is_floating_point() or like.is_complex()):
                for own, other in zip(averaged, current, strict=True):
                    own.copy_(other)
                return
            number = torch.as_tensor(steps, dtype=_whole(like).to_real(), device=like.device)
            share = share_of(decay, number) if warms_up else torch.full_like(number, 1 - decay)
            move(averaged, current, share)

        super().__init__(multi_avg_fn=average)


def share_of(decay: float, steps: Tensor) -> Tensor:
    """Return what an average that warms up takes of the weights after so many steps.

    Example:
        >>> share_of(0.99, torch.tensor([0.0, 10.0, 5000.0]))
        tensor([0.9000, 0.4500, 0.0100])
    """
    return (9 / (10 + steps)).clamp(min=1 - decay)


@torch.no_grad()
def move(averaged: Sequence[Tensor], current: Sequence[Tensor], share: Tensor) -> None:
    """Move averages towards what is current, in place; where both are the same, it stays so.

    Example:
        >>> masks = torch.tensor([0.0, -torch.inf])
        >>> move([masks], [masks.clone()], torch.tensor(0.001))
        >>> masks
        tensor([0., -inf])
    """
    for own, other in zip(averaged, current, strict=True):
        whole = _whole(own)
        moved = own.to(whole).lerp(other.to(whole), share.to(whole)).to(own.dtype)
        own.copy_(torch.where(own == other, own, moved))


def _whole(x: Tensor) -> torch.dtype:
    """The precision to average in: no less than single."""
    return torch.promote_types(x.dtype, torch.float32)
