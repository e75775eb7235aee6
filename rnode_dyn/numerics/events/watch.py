"""Noting the events in the steps of a solve, and cutting steps short where one interrupts it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.events.crossings import AT_ONCE, Crossing, CrossingFinder
from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.found import Found
from rnode_dyn.numerics.events.itinerary import Itinerary
from rnode_dyn.numerics.events.moment import Moment, gone_on, moment_of
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep, Stretch, rows, times_like


class EventWatch:
    """Finds the events of each step, and cuts it short at the first that interrupts the solve.

    Args:
        events: The events.
        algorithm: What makes the steps.
        field: The field.
        batch: How many samples.
        direction: 1 where time runs forward, −1 where it runs backward.
        itinerary: Where it is told what each sample comes by, if anybody asks.
    """

    def __init__(
        self,
        events: Sequence[Event],
        algorithm: Algorithm,
        field: SampleField,
        batch: int,
        direction: int,
        itinerary: Itinerary | None = None,
    ) -> None:
        self.events, self.algorithm, self.field = tuple(events), algorithm, field
        self.finder = CrossingFinder(events, algorithm, field.counted.stats, batch, direction)
        self.found = [Found(np.zeros(batch, dtype=int)) for _ in events]
        self.itinerary = itinerary

    def begin(self, t: float, x: Tensor, slope: Tensor) -> None:
        """Look at the start."""
        samples = np.arange(len(x))
        self.finder.stand(samples, np.full(len(x), t), x.detach(), slope.detach())

    def look(self, step: SampleStep) -> SampleStep:
        """Note a step's events; return it cut short where one of them interrupts the solve."""
        crossings, sides = self.finder.find(step)
        stop = self._stop(step.stretch, crossings)
        passed = ~np.isfinite(stop)
        self.finder.side[:, step.stretch.samples[passed]] = sides[:, passed]
        fired = [self._fired(step.stretch, each, stop) for each in crossings]
        fired = [each for each in fired if len(each.positions)]
        moments = [self._moment(step, each) for each in fired]
        return step if passed.all() else self._cut(step, fired, moments)

    def _stop(self, stretch: Stretch, crossings: Sequence[Crossing]) -> np.ndarray:
        """Where the first interruption of each sample's step is, infinite where there is none."""
        stop = np.full(len(stretch.samples), np.inf)
        for each in crossings:
            if self.events[each.index].interrupts:
                stop[each.positions] = np.minimum(stop[each.positions], each.theta)
        return stop

    def _fired(self, stretch: Stretch, each: Crossing, stop: np.ndarray) -> Crossing:
        """That of a crossing which comes before, or at, the first interruption."""
        size = np.maximum(np.abs(stretch.t), np.abs(stretch.t1))
        until = stop + AT_ONCE * size / np.abs(stretch.dt)
        return each.take(each.theta <= until[each.positions])

    def _moment(self, step: SampleStep, crossing: Crossing) -> Moment:
        """Note an event, and return it."""
        part = step.take(crossing.positions)
        x, times = part.at(self.algorithm, crossing.theta), part.stretch.at(crossing.theta)
        samples, event = part.stretch.samples, self.events[crossing.index]

        def slope() -> Tensor:
            own = part.slope_at(self.algorithm, crossing.theta)
            return self.field(samples, times, x) if own is None else own

        moment = moment_of(event, times_like(times, x), x, slope)
        self.found[crossing.index].note(samples, moment)
        if self.itinerary is not None:
            own = part.slope_at(self.algorithm, crossing.theta)
            self.itinerary.note(crossing.index, samples, times, x, own, event.interrupts)
        return moment

    def _cut(
        self, step: SampleStep, fired: Sequence[Crossing], moments: Sequence[Moment]
    ) -> SampleStep:
        """Return the step as it is for those that go on, and up to the event for the others."""
        end, t1 = step.x1, step.stretch.t1.copy()
        ended, changed = (np.zeros(len(t1), dtype=bool) for _ in range(2))
        # The first of several that happen at once comes last, and is the one that stays.
        for each, moment in zip(reversed(fired), reversed(moments), strict=True):
            event = self.events[each.index]
            if event.interrupts:
                end = end.index_copy(0, rows(each.positions, end), moment.x)
                t1[each.positions] = step.stretch.take(each.positions).at(each.theta)
                ended[each.positions] |= bool(event.terminate)
                changed[each.positions] = True
        changed &= ~ended
        stretch = replace(step.stretch, t1=t1)
        cut = replace(step, stretch=stretch, end=end, ended=ended, changed=changed)
        if changed.any():
            cut.onwards = self._changed(cut, changed, fired, moments)
        if self.itinerary is not None:
            self.itinerary.turn(cut)
        return cut

    def _changed(
        self,
        cut: SampleStep,
        changed: np.ndarray,
        fired: Sequence[Crossing],
        moments: Sequence[Moment],
    ) -> Tensor:
        """Apply what happens at events, one after the other where several happen at once."""
        onwards, delay = cut.x1, cut.x1.new_zeros(len(cut.x1))
        for each, moment in zip(fired, moments, strict=True):
            within = np.flatnonzero(changed[each.positions])
            if self.events[each.index].apply and len(within):
                place, here = rows(each.positions[within], onwards), rows(within, onwards)
                t, x = moment.t.index_select(0, here), onwards.index_select(0, place)
                onwards = onwards.index_copy(0, place, self.events[each.index].applied(t, x))
                delay = delay.index_copy(0, place, moment.delay.index_select(0, here))
        positions = np.flatnonzero(changed)
        place, stretch = rows(positions, onwards), cut.stretch.take(positions)
        after = onwards.index_select(0, place)
        slope = self.field(stretch.samples, stretch.t1, after)
        self.finder.stand(stretch.samples, stretch.t1, after.detach(), slope.detach())
        return onwards.index_copy(0, place, gone_on(after, slope, delay.index_select(0, place)))
