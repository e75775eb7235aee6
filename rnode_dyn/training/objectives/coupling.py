"""Which of two batches' samples go together, where nobody knows."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distance of every sample of ``a`` to every one of ``b``."""
    return torch.cdist(a.flatten(1).float(), b.flatten(1).float()).square()


def partners(cost: Tensor) -> Tensor:
    """Return which column goes with each row for the least cost in all, each once.

    Example:
        >>> partners(squared_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.1], [0.2]])))
        tensor([1, 0])
    """
    return torch.as_tensor(linear_sum_assignment(cost.cpu().numpy())[1], device=cost.device)
