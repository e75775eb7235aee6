"""A solve with events, which every sample makes by itself."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.found import Found
from rnode_dyn.numerics.events.itinerary import Itinerary
from rnode_dyn.numerics.events.legs import Legs
from rnode_dyn.numerics.events.watch import EventWatch
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.by_sample import discrete_by_sample
from rnode_dyn.numerics.sensitivity.checkpointed import CheckpointedAdjoint
from rnode_dyn.numerics.sensitivity.discrete import DiscreteAdjoint
from rnode_dyn.numerics.sensitivity.opaque import refuse_opaque_steps
from rnode_dyn.numerics.sensitivity.recomputed import RecomputedSteps
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.step import Maker, make_step
from rnode_dyn.numerics.stepping.integrator import Integrator


class Happened(NamedTuple):
    """What was found of each event.

    Attributes:
        times: Its times.
        states: The states then.
    """

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


class EventSearch(Sensitivity):
    """Solves each sample up to its own end, by the sensitivity of the solver.

    Args:
        events: What to look for, given the states as they are stepped.
        sensitivity: The solver's.

    Attributes:
        happened: What the first solve found.
    """

    def __init__(self, events: Sequence[Event], sensitivity: Sensitivity) -> None:
        self.events, self.sensitivity = tuple(events), sensitivity
        self.happened: Happened | None = None

    def integrate(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> Tensor:
        """Return the states at ``times``; what has ended keeps its state.

        Raises:
            ValueError: if the algorithm does not step samples by themselves, or does so out of
                autograd's sight.
        """
        _refuse_other_algorithms(integrator)
        field = SampleField(CountedField(problem, stats), len(problem.x0))
        if torch.is_grad_enabled() and not self._differentiates_steps:
            x, found = self._by_legs(problem, integrator, times, field)
        else:
            refuse_opaque_steps(problem, integrator)
            watch, make = self._watch(problem, integrator, field), self._maker(problem, stats)
            x = discrete_by_sample(problem, integrator, times, field, watch, make)
            found = watch.found
        if self.happened is None:
            self.happened = self._read(found, problem.x0)
        return x

    def _by_legs(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        times: Sequence[float],
        field: SampleField,
    ) -> tuple[Tensor, list[Found]]:
        """Find out what happens without a gradient, then solve again for that."""
        itinerary = Itinerary(field.batch, problem.direction)
        watch = self._watch(problem, integrator, field, itinerary)
        with torch.no_grad():
            x = discrete_by_sample(problem, integrator, times, field, watch)
        legs = Legs(problem, integrator, self.sensitivity, self.events, field)
        return legs.run(itinerary.with_saved(times, x), len(times)), legs.found

    @property
    def _differentiates_steps(self) -> bool:
        """Whether the gradient is that of the steps that each sample makes by itself."""
        return isinstance(self.sensitivity, DiscreteAdjoint) or (
            isinstance(self.sensitivity, CheckpointedAdjoint) and self.sensitivity.every == 1
        )

    def _maker(self, problem: ODEProblem, stats: SolveStats) -> Maker:
        """What makes the steps: it lets autograd keep no more of them than it must."""
        if torch.is_grad_enabled() and isinstance(self.sensitivity, CheckpointedAdjoint):
            return RecomputedSteps(problem, stats).make
        return make_step

    def _watch(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        field: SampleField,
        itinerary: Itinerary | None = None,
    ) -> EventWatch:
        algorithm, direction = integrator.algorithm, problem.direction
        return EventWatch(self.events, algorithm, field, field.batch, direction, itinerary)

    def _read(self, every: Sequence[Found], like: Tensor) -> Happened:
        tables = [found.tables(like) for found in every]
        # One that ends a solve can happen once.
        pairs = [
            (_only(t), _only(x)) if event.terminate else (t, x)
            for event, (t, x) in zip(self.events, tables, strict=True)
        ]
        return Happened(tuple(t for t, _ in pairs), tuple(x for _, x in pairs))


def _only(table: Tensor) -> Tensor:
    return table[0] if len(table) else table.new_full(table.shape[1:], torch.nan)


def _refuse_other_algorithms(integrator: Integrator) -> None:
    algorithm = integrator.algorithm
    if algorithm.switches:
        raise ValueError(
            f"{algorithm.name} chooses one method for all samples, and with events each steps by "
            "itself: take one of its methods alone, or leave events out."
        )
    if integrator.parameters:
        raise ValueError(
            f"{algorithm.name} steps by a network that knows the length of the step, and with "
            "events each sample's is its own: take a method such as Tsit5(), or leave events out."
        )
