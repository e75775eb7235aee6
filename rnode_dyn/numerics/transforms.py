"""Whether a tensor is seen by torch.func or by torch.export, and as what."""

from typing import Any

import torch
from torch import _C, Tensor

_functorch: Any = _C._functorch  # type: ignore[attr-defined]
# Older releases of torch tell an export from compiling no better.
_says_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def is_exporting() -> bool:
    """Whether torch.export traces the code that runs: tensors have shapes there, and no values.

    Example:
        >>> is_exporting()
        False
    """
    return bool(_says_exporting())


def is_batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for many at once, as within ``vmap``: no value can be read off it.

    In an export it stands for all that will ever be put in its place.

    Example:
        >>> seen = []
        >>> _ = torch.vmap(lambda x: seen.append(is_batched(x)) or x)(torch.ones(2))
        >>> seen, is_batched(torch.ones(2))
        ([True], False)
    """
    if is_exporting():
        return True
    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    # Autograd's own, of is_grads_batched and vectorize=True, are of an older kind.
    return _functorch.is_legacy_batchedtensor(tensor)


def within_transform() -> bool:
    """Whether the code that runs is being transformed by ``torch.func``: mapped, differentiated.

    Example:
        >>> seen = []
        >>> _ = torch.func.grad(lambda x: seen.append(within_transform()) or x)(torch.ones(()))
        >>> seen, within_transform()
        ([True], False)
    """
    return _functorch.peek_interpreter_stack() is not None
