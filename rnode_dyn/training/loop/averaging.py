"""Averaged weights: `train.ema` of what is learned, and nothing of what stays as it is."""

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """An exponential moving average of weights and statistics, updated after every step.

    torch's own average, decay · a + (1 − decay) · b, rounds: constants among a module's buffers
    drift away from themselves, and whole numbers, such as indices, are cut off to smaller ones.

    Args:
        decay: What the average keeps of itself at each step, from 0 to 1.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, _: Tensor | int) -> Tensor:
            return moved(averaged, current, 1 - decay)

        super().__init__(avg_fn=average)


def moved(averaged: Tensor, current: Tensor, share: float) -> Tensor:
    """Return an average moved towards what is current; where both are the same, it stays so.

    Example:
        >>> masks = torch.tensor([0.0, -torch.inf])
        >>> moved(masks, masks, 0.001)
        tensor([0., -inf])
        >>> moved(torch.tensor([3]), torch.tensor([4]), 0.001)
        tensor([4])
    """
    if not (averaged.is_floating_point() or averaged.is_complex()):
        return current
    return torch.where(averaged == current, averaged, averaged.lerp(current, share))
