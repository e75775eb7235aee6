"""Whether a tensor is seen by torch.func or by torch.export, and as what."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import _C, Tensor

_functorch: Any = _C._functorch  # type: ignore[attr-defined]
# Older releases of torch tell an export from compiling no better.
_says_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
_tracing = ContextVar("tracing", default=False)


@contextmanager
def tracing() -> Iterator[None]:
    """Within this context, code is traced for an export in another way than by torch.export."""
    token = _tracing.set(True)
    try:
        yield
    finally:
        _tracing.reset(token)


def is_exporting() -> bool:
    """Whether the code that runs is traced for an export: tensors have shapes there, and no values.

    Example:
        >>> with tracing():
        ...     is_exporting()
        True
        >>> is_exporting()
        False
    """
    return _tracing.get() or bool(_says_exporting())


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
