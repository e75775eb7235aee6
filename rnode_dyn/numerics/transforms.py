"""Whether a tensor is seen by torch.func, and by which of its transforms."""

from typing import Any

from torch import _C, Tensor

_functorch: Any = _C._functorch  # type: ignore[attr-defined]


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for many at once, as within ``vmap``: no value can be read off it.

    Example:
        >>> import torch
        >>> seen = []
        >>> _ = torch.vmap(lambda x: seen.append(is_batched(x)) or x)(torch.ones(2))
        >>> seen, is_batched(torch.ones(2))
        ([True], False)
    """
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    # Autograd's own, of is_grads_batched and vectorize=True, are of an older kind.
    return _functorch.is_legacy_batchedtensor(tensor)


def within_transform() -> bool:
    """Whether the code that runs is being transformed by ``torch.func``: mapped, differentiated.

    Example:
        >>> import torch
        >>> seen = []
        >>> _ = torch.func.grad(lambda x: seen.append(within_transform()) or x)(torch.ones(()))
        >>> seen, within_transform()
        ([True], False)
    """
    return _functorch.peek_interpreter_stack() is not None
