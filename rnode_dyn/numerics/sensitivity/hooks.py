"""Differentiating by tensors that belong to a larger graph, and leaving that as it is."""

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


@contextmanager
def histories_cut(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Differentiate by tensors each for itself, though one may have been computed from another.

    A field uses a weight, and a code that was computed with it before the solve. Autograd would go
    on from the code to the weight, which the larger graph does as well: that would count twice.

    Example:
        >>> import torch
        >>> weight = torch.ones((), requires_grad=True)
        >>> code = 3 * weight
        >>> with histories_cut([code]):
        ...     torch.autograd.grad(weight + code, [weight, code])
        (tensor(1.), tensor(1.))
    """
    handles = [t.grad_fn.register_prehook(_nothing) for t in tensors if t.grad_fn is not None]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _nothing(grads: Sequence[Tensor | None]) -> tuple[None, ...]:
    """What goes on from a tensor where its history is cut; its own gradient is taken before."""
    return (None,) * len(grads)
