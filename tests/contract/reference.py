"""What every cell is compared with: Dormand-Prince unrolled in plain torch, and nothing of ours.

The whole Jacobian of the batch is written out, entry by entry; the divergence, both estimates and
all penalties are read off it. Autograd differentiates what was computed; the derivatives by times
are added by their definition, dx/dt1 = f and dx/dt0 = −Φ f.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction as Q
from typing import NamedTuple

import torch
from torch import Tensor

Plain = Callable[[Tensor, Tensor], Tensor]
State = dict[str, Tensor]

C = (0, Q(1, 5), Q(3, 10), Q(4, 5), Q(8, 9), 1)
A = (
    (Q(1, 5),),
    (Q(3, 40), Q(9, 40)),
    (Q(44, 45), Q(-56, 15), Q(32, 9)),
    (Q(19372, 6561), Q(-25360, 2187), Q(64448, 6561), Q(-212, 729)),
    (Q(9017, 3168), Q(-355, 33), Q(46732, 5247), Q(49, 176), Q(-5103, 18656)),
)
# Of the second solution, the end's slope included.
LESS = (
    Q(5179, 57600),
    Q(0),
    Q(7571, 16695),
    Q(393, 640),
    Q(-92097, 339200),
    Q(187, 2100),
    Q(1, 40),
)
B = (Q(35, 384), Q(0), Q(500, 1113), Q(125, 192), Q(-2187, 6784), Q(11, 84))


class Attempt(NamedTuple):
    """One step that was tried: where it began, how long it was, whether it was kept."""

    t: float
    dt: float
    kept: bool = True


class Dynamics:
    """d/dt of the state and of what a flow adds to it.

    Args:
        plain: f(t, x).
        noise: Hutchinson's, like ``x``; ``None`` for the exact trace.
        adds: Names of what is solved for beside the state.
    """

    def __init__(self, plain: Plain, noise: Tensor | None, adds: Sequence[str]) -> None:
        self.plain, self.noise, self.adds = plain, noise, tuple(adds)

    def __call__(self, t: float, y: State) -> State:
        """Evaluate the field once, and what is asked for."""
        x = y["z"]
        time = x.new_tensor(t)
        if not self.adds:
            return {"z": self.plain(time, x)}
        with torch.enable_grad():
            time.requires_grad_()
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            value = self.plain(time, x)
            jacobian, by_time = _jacobian(value, time, x)
            known = self._known(value.flatten(1), jacobian, by_time)
        return {"z": value, **{name: known[name] for name in self.adds}}

    def _known(self, value: Tensor, jacobian: Tensor, by_time: Tensor) -> State:
        batch, size = value.shape
        # jacobian[a, i, b, j] = ∂f_i of sample a by x_j of sample b
        along = torch.einsum("aibj,bj->ai", jacobian, value)
        if self.noise is None:
            own = torch.stack([jacobian[b, :, b] for b in range(batch)])
            trace, frobenius = own.diagonal(dim1=1, dim2=2).sum(1), own.square().sum((1, 2))
        else:
            noise = self.noise.flatten(1)
            product = torch.einsum("ai,aibj->bj", noise, jacobian)
            trace, frobenius = (product * noise).sum(1), product.square().sum(1)
        return {
            "log_det": trace,
            "kinetic_energy": value.square().sum(1) / (2 * size),
            "jacobian_frobenius": frobenius / size,
            "directional_derivative": along.square().sum(1) / (2 * size),
            "total_derivative": (by_time + along).square().sum(1) / (2 * size),
            # What the steps add has no rate.
            **{name: value.new_zeros(batch) for name in ("error_estimate", "stiffness")},
        }


def _jacobian(value: Tensor, time: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """All derivatives of a batch by itself, and by time."""
    shape = x.flatten(1).shape
    by_state, by_time = [], []
    for entry in value.flatten():
        inputs = (time, x)
        grads = (
            torch.autograd.grad(entry, inputs, create_graph=True, allow_unused=True)
            if entry.requires_grad
            else (None, None)
        )
        t, s = (torch.zeros_like(i) if g is None else g for i, g in zip(inputs, grads, strict=True))
        by_state.append(s.reshape(shape))
        by_time.append(t)
    return torch.stack(by_state).view(*shape, *shape), torch.stack(by_time).view(shape)


def _plus(y: State, dt: float, weights: Sequence[Q], slopes: Sequence[State]) -> State:
    def total(name: str) -> Tensor:
        terms = [float(w) * k[name] for w, k in zip(weights, slopes, strict=True) if w]
        return y[name] + dt * torch.stack(terms).sum(0)

    return {name: total(name) for name in y}


def unrolled(dynamics: Dynamics, x: Tensor, attempts: Sequence[Attempt]) -> list[State]:
    """Return the states at the end of every step that was kept, the start first.

    A step that was not kept is made all the same: the field may draw, or count.
    """
    y = _begun(dynamics, x)
    states, slope = [y], None
    for attempt in attempts:
        end, first, last = _stepped(dynamics, attempt.t, attempt.dt, y, slope)
        slope = last if attempt.kept else first
        if attempt.kept:
            y = end
            states.append(y)
    return states


def unrolled_pair(
    dynamics: Dynamics, x: Tensor, attempts: Sequence[Attempt], strength: float
) -> list[State]:
    """The same of the first state of a reversible pair; the last step needs no second one."""
    y = z = _begun(dynamics, x)
    states, slope = [y], None
    for attempt in attempts:
        inner, first, _ = _stepped(dynamics, attempt.t, attempt.dt, z, slope)
        slope = first if z is y else None
        if attempt.kept:
            y = {name: inner[name] + strength * (y[name] - z[name]) for name in y}
            states.append(y)
            if attempt is not attempts[-1]:
                back, *_ = _stepped(dynamics, attempt.t + attempt.dt, -attempt.dt, y, None)
                z = {name: z[name] + y[name] - back[name] for name in y}
                slope = None
    return states


def _begun(dynamics: Dynamics, x: Tensor) -> State:
    return {"z": x, **{name: x.new_zeros(len(x)) for name in dynamics.adds}}


def _stepped(
    dynamics: Dynamics, t: float, dt: float, y: State, slope: State | None
) -> tuple[State, State, State]:
    """Where a step ends, the slope that it began with, and the one at its end."""
    slopes = [dynamics(t, y) if slope is None else slope]
    for row, c in zip(A, C[1:], strict=True):
        slopes.append(dynamics(t + float(c) * dt, _plus(y, dt, row, slopes)))
    end = _plus(y, dt, B, slopes)
    last = dynamics(t + dt, end)
    return _with_estimates(end, dt, [*slopes, last]), slopes[0], last


def _with_estimates(end: State, dt: float, slopes: Sequence[State]) -> State:
    """The end of a step with what it says of itself: its error, and how far two stages differ."""
    if "error_estimate" not in end:
        return end
    less = [b - other for b, other in zip((*B, Q(0)), LESS, strict=True)]
    error = _plus({name: torch.zeros_like(end[name]) for name in end}, dt, less, slopes)
    entries = torch.cat([error["log_det"][:, None], error["z"].flatten(1)], 1)
    apart = [b - a for b, a in zip(B, (*A[-1], Q(0)), strict=True)]
    nowhere = {"z": torch.zeros_like(end["z"])}
    moved = _plus(nowhere, dt, apart, slopes[:-1])["z"].flatten(1).norm(dim=1)
    changed = (slopes[-1]["z"] - slopes[-2]["z"]).flatten(1).norm(dim=1)
    ratio = changed / torch.where(moved > 0, moved, 1.0)
    return {
        **end,
        "error_estimate": end["error_estimate"] + abs(dt) * entries.square().mean(1).sqrt(),
        "stiffness": end["stiffness"] + abs(dt) * ratio,
    }


def moved_by(dynamics: Dynamics, y: State, t: Tensor, direction: float) -> State:
    """A state that moves with a time at its own speed, as far as derivatives see."""
    still = {name: value.detach() for name, value in y.items()}
    speed = {name: slope.detach() for name, slope in dynamics(float(t.detach()), still).items()}
    return {name: y[name] + direction * (t - t.detach()) * speed[name] for name in y}
