"""A solve with events, which every sample makes by itself."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.watch import EventWatch
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.by_sample import discrete_by_sample
from rnode_dyn.numerics.sensitivity.discrete import DiscreteAdjoint
from rnode_dyn.numerics.sensitivity.opaque import refuse_opaque_steps, wants_a_gradient
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.integrator import Integrator


class WithEvents(NamedTuple):
    """What a solve with events returns.

    Attributes:
        x: The states at the times that were asked for.
        times: The times of each event.
        states: The states at each event.
    """

    x: Tensor
    times: tuple[Tensor, ...]
    states: tuple[Tensor, ...]


def checked_events(events: Any, times: Sequence[Any]) -> tuple[Event, ...]:
    """Return the events as a tuple.

    Args:
        events: What was given.
        times: The times of the span and those to save the state at.

    Raises:
        TypeError: if they are no events.
        ValueError: if a time wants a gradient.
    """
    given = (events,) if isinstance(events, Event) else events
    if not isinstance(given, Sequence) or not all(isinstance(event, Event) for event in given):
        raise TypeError(f"events is {events!r}; write a list, [Event(condition)].")
    if any(map(wants_gradient, times)):
        raise ValueError(
            "events decide when a sample ends, and a time of t_span or save_at wants a gradient, "
            "which may then be none: write t.detach()."
        )
    return tuple(given)


def integrate_with_events(
    problem: ODEProblem,
    integrator: Integrator,
    sensitivity: Sensitivity,
    times: Sequence[float],
    stats: SolveStats,
    events: Sequence[Event],
) -> WithEvents:
    """Solve, each sample up to its own end.

    Raises:
        ValueError: if a gradient is wanted that the sensitivity cannot give.
    """
    _refuse_other_sensitivities(problem, sensitivity)
    refuse_opaque_steps(problem, integrator)
    batch = len(problem.x0)
    field = SampleField(CountedField(problem, stats), batch)
    watch = EventWatch(events, integrator.algorithm, field, batch, problem.direction)
    x = discrete_by_sample(problem, integrator, times, field, watch)
    tables = [found.tables(problem.x0) for found in watch.found]
    # One that ends a solve can happen once.
    rows = [
        (_only(t), _only(x)) if event.terminate else (t, x)
        for event, (t, x) in zip(events, tables, strict=True)
    ]
    return WithEvents(x, tuple(t for t, _ in rows), tuple(x for _, x in rows))


def _only(table: Tensor) -> Tensor:
    return table[0] if len(table) else table.new_full(table.shape[1:], torch.nan)


def _refuse_other_sensitivities(problem: ODEProblem, sensitivity: Sensitivity) -> None:
    if isinstance(sensitivity, DiscreteAdjoint) or not wants_a_gradient(problem):
        return
    raise ValueError(
        f"{type(sensitivity).__name__} does not see how events move with what the solve starts "
        "from: take DiscreteAdjoint(), or solve under torch.no_grad()."
    )
