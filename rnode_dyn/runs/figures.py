"""Reading figures off the device that computed them, which is waited for once for all of them."""

from collections.abc import Mapping

import torch
from torch import Tensor


def read_together(figures: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Return figures as numbers, each the one that ``float`` would give.

    Example:
        >>> read_together({"loss": torch.tensor(0.5), "stage": 1.0})
        {'loss': 0.5, 'stage': 1.0}
    """
    there = {k: v.detach() for k, v in figures.items() if isinstance(v, Tensor) and not v.is_cpu}
    read = torch.stack(list(there.values())).tolist() if there else []
    numbers = dict(zip(there, read, strict=True))
    return {k: numbers[k] if k in numbers else float(v) for k, v in figures.items()}
