"""Gradients with respect to times: dx(t)/dt = f(t, x(t)) at a saved one, −Φ f at the start.

They are those of the solution itself, and the same for every sensitivity and stepping: how a grid
of steps moves with its ends is no part of them.
"""

from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.checks import check
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.once import once
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.random_state import TorchRandomState
from rnode_dyn.numerics.sensitivity.reach import Reach
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import CountedField, SolveStats

_NAME = "the gradient with respect to a time"
_ANOTHER_FIELD = (
    "a time wants a gradient, which is the field at that time, and the field is not the same "
    "whenever it is evaluated: it draws random numbers or changes a buffer. Freeze them, "
    "FrozenNoise(field), or call field.eval()."
)


class _Moving(torch.autograd.Function):
    """A state that moves with a time at a known speed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, speed: Tensor) -> Tensor:
        ctx.save_for_backward(t, speed)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        t, speed = ctx.saved_tensors
        by_time = (grads[0].detach() * speed).sum().to(t.detach())
        return grads[0], once(_NAME, [by_time], (t, grads[0]))[0], None


def start_at(problem: ODEProblem, stats: SolveStats) -> Tensor:
    """Return the start as a state that reaches the start time: earlier by dt, it is ahead by f dt.

    Args:
        problem: What will be solved.
        stats: Where the evaluation is counted, where one is needed.
    """
    return moved(problem, problem.x0, problem.t_span[0], -1.0, stats)


def saved_at(problem: ODEProblem, x: Tensor, times: list[Any], stats: SolveStats) -> Tensor:
    """Return saved states that reach the times they were saved at.

    Args:
        problem: What was solved.
        x: The states, ``(len(times), batch, *event)``.
        times: Numbers, or tensors, of which some want a gradient.
        stats: Where the evaluations are counted, where any are needed.
    """
    if not any(map(wants_gradient, times)):
        return x
    rows = zip(x.unbind(), times, strict=True)
    return torch.stack([moved(problem, row, t, 1.0, stats) for row, t in rows])


def moved(problem: ODEProblem, x: Tensor, t: Any, direction: float, stats: SolveStats) -> Tensor:
    """Return a state that moves with a time by the field there, where the time wants a gradient.

    Args:
        problem: What is solved.
        x: The state.
        t: The time.
        direction: +1 for the state at that time, -1 for the start of the solve.
        stats: Where the evaluations are counted.
    """
    if not (wants_gradient(t) and torch.is_grad_enabled()):
        return x
    return _Moving.apply(x, t, direction * _speed(problem, float(t.detach()), x.detach(), stats))


def _speed(problem: ODEProblem, t: float, x: Tensor, stats: SolveStats) -> Tensor:
    """The field at a time and state, by evaluations of its own, which must change nothing.

    There are two of them: what a field draws from elsewhere, or keeps in no tensor, shows in that
    the second differs from the first.
    """
    random, field = TorchRandomState.now(x.device), CountedField(problem, stats)
    with torch.no_grad():
        with Reach() as reach:
            speed = field(t, x)
        again = field(t, x)
    if reach.written or not random.is_now():
        raise ValueError(_ANOTHER_FIELD)
    check(is_same(again, speed), lambda: ValueError(_ANOTHER_FIELD))
    return speed
