"""Tensors' hooks, which are there for the whole gradient and not for parts of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def hooks_at_rest(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Differentiate by tensors without calling their hooks, nor adding to ``.grad``.

    An adjoint differentiates many times, and autograd would call the hooks (clipping, say, or
    ``retain_grad``) of what is differentiated by each time. It calls them once for the whole.

    Example:
        >>> import torch
        >>> x, seen = torch.ones((), requires_grad=True), []
        >>> _ = x.register_hook(seen.append)
        >>> with hooks_at_rest([x]):
        ...     _ = torch.autograd.grad(3 * x, x)
        >>> seen
        []
    """
    hooked = [t._backward_hooks for t in tensors if t._backward_hooks]
    held = [dict(hooks) for hooks in hooked]
    # What retain_grad() asked for is added up out of place: the tensor there before is as it was.
    retained = [(t, t.grad) for t in tensors if t.retains_grad]
    for hooks in hooked:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in zip(hooked, held, strict=True):
            hooks.update(before)
        for tensor, grad in retained:
            tensor.grad = grad
