"""Norms that turn a scaled error into the one number that step-size control looks at."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

# Takes a scaled error (batch, *event) and returns a 0-dim tensor; 1 is the tolerance.
ErrorNorm = Callable[[Tensor], Tensor]


def mean_square(scaled: Tensor, kept: Tensor | None = None) -> Tensor:
    """Mean square of each sample, over the entries that take part in error control.

    Args:
        scaled: The scaled error, ``(batch, *event)``.
        kept: Numbers of those entries; left out, they are all.
    """
    squares = scaled.reshape(len(scaled), -1).square()
    return squares.mean(1) if kept is None else squares.index_select(1, kept).mean(1)


def rms_norm(scaled: Tensor, kept: Tensor | None = None) -> Tensor:
    """Root mean square over the whole batch: Hairer's norm."""
    return mean_square(scaled, kept).mean().sqrt()


def max_norm(scaled: Tensor, kept: Tensor | None = None) -> Tensor:
    """Largest root mean square of a sample: each one meets the tolerance, whoever is beside it."""
    return mean_square(scaled, kept).amax().sqrt()


NormName = Literal["rms", "max"]
_NORMS = {"rms": rms_norm, "max": max_norm}


def named_norm(name: NormName, mask: Tensor | None = None) -> ErrorNorm:
    """Return the norm of this name, restricted to the entries that ``mask`` selects."""
    return _restricted(_NORMS[name], mask)


def each_norm(scaled: Tensor, kept: Tensor | None = None) -> Tensor:
    """Root mean square of each sample, ``(batch,)``."""
    return mean_square(scaled, kept).sqrt()


def sample_norm(mask: Tensor | None = None) -> ErrorNorm:
    """Return the norm of each sample, restricted to the entries that ``mask`` selects."""
    return _restricted(each_norm, mask)


def _restricted(norm: Callable[..., Tensor], mask: Tensor | None) -> ErrorNorm:
    if mask is None:
        return norm

    @cache  # and not before it is asked for: fixed steps never do, and a trace could not follow
    def kept() -> Tensor:
        # Numbers and no mask: where a GPU solves, it need not be asked how many they are.
        return mask.flatten().cpu().nonzero().flatten()

    return lambda scaled: norm(scaled, kept().to(scaled.device, non_blocking=True))


def worst_sample(scaled: Tensor) -> Tensor:
    """Index of the sample with the largest error, one that is not finite before all others.

    It is 0-dim, and stays on the device until somebody wants to know.
    """
    worst = scaled.detach().reshape(len(scaled), -1).abs().amax(1)
    return torch.nan_to_num(worst, nan=torch.inf).argmax()
