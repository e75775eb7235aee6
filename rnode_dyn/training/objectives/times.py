"""Where on a path flow matching looks: how times are drawn, and how dense they lie."""

from typing import Literal

import torch
from torch import Tensor

Times = Literal["uniform", "stratified", "logit-normal", "near-data"]


def draw_times(times: Times, like: Tensor) -> Tensor:
    """Draw a time in [0, 1] for every sample of ``like``, ``(batch,)``."""
    count = len(like)
    if times == "logit-normal":
        return torch.randn(count, device=like.device, dtype=like.dtype).sigmoid()
    drawn = torch.rand(count, device=like.device, dtype=like.dtype)
    if times == "uniform":
        return drawn
    even = (torch.randperm(count, device=like.device) + drawn) / count
    return even.square() if times == "near-data" else even


def density_of_times(times: Times, t: Tensor) -> Tensor:
    """Return the density at which times are drawn.

    Args:
        times: How they are drawn; not ``"logit-normal"``, whose density vanishes at the data.
        t: Times in [0, 1].

    Example:
        >>> density_of_times("near-data", torch.tensor([0.0625, 0.25]))
        tensor([2., 1.])
    """
    return 0.5 * t.rsqrt() if times == "near-data" else torch.ones_like(t)
