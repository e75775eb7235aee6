"""Whether a tensor is seen by torch.func, and by which of its transforms."""

import torch
from torch import Tensor


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for many at once, as within ``vmap``: no value can be read off it.

    Example:
        >>> seen = []
        >>> _ = torch.vmap(lambda x: seen.append(is_batched(x)) or x)(torch.ones(2))
        >>> seen, is_batched(torch.ones(2))
        ([True], False)
    """
    while is_transformed(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False


def is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor is one of ``torch.func``'s, within ``vmap``, ``grad``, ``jacrev``, …"""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)
