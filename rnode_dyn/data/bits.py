"""The unit in which likelihoods of data are compared: bits per dimension."""

import math

from torch import Tensor


def bits_per_dim(log_prob: Tensor, dims: int, levels: int | None) -> Tensor:
    """Bits that a sample costs, for each of its dimensions: −(log p(u) − d·log levels)/(d·log 2).

    Args:
        log_prob: Natural log density of u = (pixel + noise) / levels, of the data itself where it
            is continuous.
        dims: How many dimensions d a sample has.
        levels: How many values a pixel can take; None for continuous data.

    A density that is uniform on the unit cube costs log2(levels) bits, whatever the image:

    >>> import torch
    >>> bits = bits_per_dim(torch.tensor(0.0), dims=64, levels=17)
    >>> round(bits.item(), 4) == round(math.log2(17), 4)
    True
    """
    offset = 0.0 if levels is None else math.log2(levels)
    return offset - log_prob / (dims * math.log(2))
