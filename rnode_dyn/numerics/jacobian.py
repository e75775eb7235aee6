"""A field's derivatives at one time and state, for methods that solve with them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnode_dyn.numerics.transforms import is_batched

_COUPLED = (
    "one sample's slope depends on another sample (batch normalisation, attention across the "
    "batch), and methods for stiff problems solve for each sample by itself: solve them as one "
    "sample, x0[None], or take an explicit method such as Tsit5()."
)
_NOT_THE_DERIVATIVE = (
    "the field's jacobian(t, x) is not the derivative of the field, or one sample's slope depends "
    "on another sample: mend it, or leave it out, and torch.func computes it."
)

Called = Callable[[Tensor, Tensor], Tensor]


class Linearization(NamedTuple):
    """The derivatives of a field f(t, x), with the event's axes flattened to n entries.

    Attributes:
        by_state: ∂f/∂x of each sample, ``(batch, n, n)``.
        by_time: ∂f/∂t of each sample, ``(batch, n)``.
    """

    by_state: Tensor
    by_time: Tensor


def linearize(called: Called, t: Tensor, x: Tensor, offered: Any = None) -> Linearization:
    """Differentiate a field whose samples do not depend on each other.

    One Jacobian-vector product for each direction of a sample serves the whole batch; autograd
    sees through all of it. A further product, in a direction of all entries at once, tells
    whether one sample depends on another.

    Args:
        called: The field, f(t, x).
        t: 0-dim time, or one for each sample, ``(batch,)``.
        x: States, ``(batch, *event)``.
        offered: The field's own ``jacobian(t, x)``, ``(batch, n, n)``, where it has one.

    Raises:
        ValueError: if samples depend on each other, or what is offered is no derivative.

    Example:
        >>> rotate = lambda t, x: t * x.flip(-1)
        >>> at = linearize(rotate, torch.tensor(2.0), torch.tensor([[1.0, 3.0]]))
        >>> at.by_state.tolist(), at.by_time.tolist()
        ([[[0.0, 2.0], [2.0, 0.0]]], [[3.0, 1.0]])
    """
    batch, entries = len(x), x[0].numel()

    def push(dt: Tensor, dx: Tensor) -> Tensor:
        return torch.func.jvp(called, (t, x), (dt, dx))[1]

    by_time = push(torch.ones_like(t), torch.zeros_like(x)).reshape(batch, entries).to(x.dtype)
    if offered is not None:
        by_state = offered(t, x)
        _check_offered(by_state, (batch, entries, entries))
        product = push(torch.zeros_like(t), _signs(x)).reshape(batch, entries)
        _compare(by_state, _signs(x).reshape(batch, entries), product, _NOT_THE_DERIVATIVE)
        return Linearization(by_state.to(x.dtype), by_time)
    still = torch.zeros(entries + 1, *t.shape, dtype=t.dtype, device=t.device)
    columns = torch.func.vmap(push, randomness="same")(still, _directions(x))
    columns = columns.reshape(entries + 1, batch, entries).to(x.dtype)
    by_state = columns[:entries].permute(1, 2, 0)
    _compare(by_state, _signs(x).reshape(batch, entries), columns[entries], _COUPLED)
    return Linearization(by_state, by_time)


def _directions(x: Tensor) -> Tensor:
    """Each entry's direction for all samples alike, and one of mixed signs for the test."""
    entries = x[0].numel()
    basis = torch.eye(entries, dtype=x.dtype, device=x.device).reshape(entries, 1, *x.shape[1:])
    return torch.cat([basis.expand(entries, *x.shape), _signs(x)[None]])


def _signs(x: Tensor) -> Tensor:
    """A direction of all entries, another in each sample: from the golden ratio's multiples."""
    places = torch.arange(x.numel(), dtype=torch.float64, device=x.device)
    return ((places * 0.6180339887498949) % 1.0 + 0.5).to(x.dtype).reshape(x.shape)


@torch.no_grad()
def _compare(by_state: Tensor, direction: Tensor, product: Tensor, reason: str) -> None:
    """Raise where the matrices, applied to each sample's direction, miss the field's product."""
    if is_batched(product):
        return
    alone = (by_state @ direction[..., None])[..., 0]
    size = (by_state.abs() @ direction[..., None])[..., 0].amax()
    differs = (alone - product).abs().amax() > torch.finfo(product.dtype).eps ** 0.5 * size
    if bool(differs):
        raise ValueError(reason)


def _check_offered(by_state: object, shape: tuple[int, ...]) -> None:
    if not isinstance(by_state, Tensor) or by_state.shape != shape:
        given = tuple(by_state.shape) if isinstance(by_state, Tensor) else type(by_state).__name__
        raise ValueError(
            f"the field's jacobian(t, x) returned {given}: it must return ∂f/∂x of each sample, a "
            f"tensor of shape {shape}, or be left out."
        )
