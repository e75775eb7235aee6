"""Where a module computes, and in what precision: as its first weight."""

import torch
from torch import Tensor, nn


def first_weight(module: nn.Module) -> Tensor:
    """Return a module's first parameter, or an empty tensor where it has none.

    Example:
        >>> first_weight(nn.Linear(1, 1).double()).dtype, first_weight(nn.Tanh()).dtype
        (torch.float64, torch.float32)
    """
    return next(module.parameters(), torch.empty(0))
