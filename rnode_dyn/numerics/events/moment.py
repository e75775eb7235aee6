"""The time and state of an event, and their gradient by the implicit function theorem.

Where g(τ, x(τ)) = 0 defines τ, and a change of the solution changes g there by δg, τ moves by
−δg / (∂g/∂t + ∂g/∂x · f).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.once import once

_NAME = "the gradient of an event's time"
_INSTEAD = "take differences of first ones, or leave events out"


@dataclass(frozen=True)
class Moment:
    """An event of some samples.

    Attributes:
        t: Its times, ``(n,)``, with their gradient.
        x: The states there, ``(n, *event)``, with theirs.
        delay: Zeros, ``(n,)``, that have the gradient of the times.
    """

    t: Tensor
    x: Tensor
    delay: Tensor


class _Crossing(torch.autograd.Function):
    """A time at which a value is zero, given how fast the value changes."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, value: Tensor, speed: Tensor) -> Tensor:
        ctx.save_for_backward(value, speed)
        return t.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        value, speed = ctx.saved_tensors
        by_value = -grads[0].detach() / speed
        return None, once(_NAME, [by_value.to(value.dtype)], (value, grads[0]), _INSTEAD)[0], None


def moment_of(event: Event, t: Tensor, x: Tensor, slope: Callable[[], Tensor]) -> Moment:
    """Return an event, given its times, the states there and how to know dx/dt there."""
    value = event.values(t, x) if torch.is_grad_enabled() else t
    if not (value.requires_grad or x.requires_grad):
        return Moment(t, x, torch.zeros_like(t))
    with torch.no_grad():  # it comes with a delay, whose value is zero
        rate = slope()
    time = t
    if value.requires_grad:
        time = _Crossing.apply(t, value, speed_of(event, t, x, rate))
    delay = time - time.detach()
    return Moment(time, x + _times(delay, rate), delay)


def gone_on(after: Tensor, slope: Tensor, delay: Tensor) -> Tensor:
    """Return states to go on from at a time that does not move, given those at the event itself."""
    return after - _times(delay, slope)


def speed_of(event: Event, t: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    """Return dg/dt along the solution, ``(n,)``; nothing is differentiated through it."""
    with torch.inference_mode(False), torch.enable_grad():
        t, x, slope = (tensor.detach().clone() for tensor in (t, x, slope))
        value = event.values(t.requires_grad_(), x.requires_grad_())
        if not value.requires_grad:
            return torch.zeros_like(t).detach()
        by_t, by_x = torch.autograd.grad(value.sum(), [t, x], allow_unused=True)
    speed = torch.zeros_like(t).detach() if by_t is None else by_t
    return speed if by_x is None else speed + (by_x * slope).flatten(1).sum(1)


def _times(numbers: Tensor, x: Tensor) -> Tensor:
    return x * numbers.reshape(-1, *[1] * (x.dim() - 1))
