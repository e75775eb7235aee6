"""Looking for events in the steps of a solve, and cutting steps short where one interrupts it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.errors import NonFiniteStateError
from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.moment import Moment, gone_on, moment_of, speed_of
from rnode_dyn.numerics.events.roots import first_behind
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.by_sample.control import on_host
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep, rows

# Width in time, relative to the times, of the bracket that an event is found in.
_WIDTH = 1e-14
# A condition that would be zero this much earlier or later, relative to the times, counts as zero.
_AT_ONCE = 1e-10


@dataclass
class Found:
    """The occurrences of one event, in the order of the steps.

    Attributes:
        counts: How many each sample has had, ``(batch,)``.
        places: Places in the batch, and the number of each occurrence, of each entry of the rest.
        times: The times.
        states: The states.
    """

    counts: np.ndarray
    places: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    times: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)

    def note(self, samples: np.ndarray, moment: Moment) -> None:
        """Note one occurrence of each of these samples."""
        self.places.append((self.counts[samples], samples))
        self.counts[samples] += 1
        self.times.append(moment.t)
        self.states.append(moment.x)

    def tables(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return times ``(count, batch)`` and states ``(count, batch, *event)``, NaN for none."""
        batch, most = len(like), int(self.counts.max())
        times = like.new_full((most * batch,), torch.nan)
        states = like.new_full((most * batch, *like.shape[1:]), torch.nan)
        if self.places:
            flat = np.concatenate([number * batch + samples for number, samples in self.places])
            index = rows(flat, like)
            times = times.index_copy(0, index, torch.cat(self.times))
            states = states.index_copy(0, index, torch.cat(self.states))
        return times.reshape(most, batch), states.reshape(most, *like.shape)


class EventWatch:
    """Finds the events of each step, and cuts it short at the first that interrupts the solve.

    Args:
        events: The events.
        algorithm: What makes the steps.
        field: The field.
        batch: How many samples.
        direction: 1 where time runs forward, −1 where it runs backward.
    """

    def __init__(
        self,
        events: Sequence[Event],
        algorithm: Algorithm,
        field: SampleField,
        batch: int,
        direction: int,
    ) -> None:
        self.events, self.algorithm, self.field = tuple(events), algorithm, field
        self.direction = direction
        self.stats: SolveStats = field.counted.stats
        # The sign of each condition just behind where each sample is; 0: it cannot be told.
        self.side = np.zeros((len(events), batch))
        self.found = [Found(np.zeros(batch, dtype=int)) for _ in events]

    def begin(self, t: float, x: Tensor, slope: Tensor) -> None:
        """Look at the start."""
        samples = np.arange(len(x))
        self._take_sides(samples, np.full(len(x), t), x.detach(), slope.detach())

    def look(self, step: SampleStep) -> SampleStep:
        """Note a step's events; return it cut short where one of them interrupts the solve."""
        values = self._values(step.stretch.samples, step.stretch.t1, step.x1.detach())
        theta = np.full(values.shape, np.inf)
        for index, event in enumerate(self.events):
            crossing = np.flatnonzero(self._crosses(event, index, step, values[index]))
            if len(crossing):
                theta[index, crossing] = self._locate(index, step, crossing, values[index])
        return self._settle(step, theta, values)

    def _crosses(self, event: Event, index: int, step: SampleStep, value: np.ndarray) -> np.ndarray:
        side = self.side[index, step.stretch.samples]
        rises = side < 0
        wanted = {1: rises, -1: ~rises, 0: np.ones_like(rises)}[event.direction]
        return (side * value <= 0) & (side != 0) & wanted

    def _locate(
        self, index: int, step: SampleStep, positions: np.ndarray, at_end: np.ndarray
    ) -> np.ndarray:
        """Return where in the step an event is, for samples whose condition changes sign in it."""
        with torch.no_grad():
            part = step.take(positions)
            stretch, event = part.stretch, self.events[index]

            def value(theta: np.ndarray) -> np.ndarray:
                x = part.at(self.algorithm, theta).detach()
                times = stretch.t + theta * stretch.dt
                return self._value(event, stretch.samples, times, x)

            size = np.maximum(np.abs(stretch.t), np.abs(stretch.t1))
            width = np.maximum(_WIDTH * size / np.abs(stretch.dt), 4 * np.finfo(float).eps)
            side = self.side[index, stretch.samples]
            return first_behind(value, side, at_end[positions], width)

    def _settle(self, step: SampleStep, theta: np.ndarray, values: np.ndarray) -> SampleStep:
        """Note what happens before, and at, the first interruption; cut the step there."""
        samples = step.stretch.samples
        interrupts = np.array([event.interrupts for event in self.events])
        stop = np.min(np.where(interrupts[:, None], theta, np.inf), axis=0)
        size = np.maximum(np.abs(step.stretch.t), np.abs(step.stretch.t1))
        together = _AT_ONCE * size / np.abs(step.stretch.dt)
        fired = np.isfinite(theta) & (theta <= stop + together)
        passed = np.flatnonzero(~np.isfinite(stop))
        self._pass(samples[passed], values[:, passed])
        moments = {
            index: self._moment(index, step, np.flatnonzero(fired[index]), theta[index])
            for index in np.flatnonzero(fired.any(1)).tolist()
        }
        if not np.isfinite(stop).any():
            return step
        return self._cut(step, theta, fired, moments)

    def _pass(self, samples: np.ndarray, values: np.ndarray) -> None:
        """Take the sides of the step's end."""
        before = self.side[:, samples]
        self.side[:, samples] = np.where(values == 0, -before, np.sign(values))

    def _moment(
        self, index: int, step: SampleStep, positions: np.ndarray, theta: np.ndarray
    ) -> Moment:
        """Note an event, and return it."""
        part, at = step.take(positions), theta[positions]
        stretch = part.stretch
        x = part.at(self.algorithm, at)
        times = np.where(at == 1.0, stretch.t1, stretch.t + at * stretch.dt)
        slope = partial(self.field, stretch.samples, times, x)
        moment = moment_of(self.events[index], _tensor(times, x), x, slope)
        self.found[index].note(stretch.samples, moment)
        return moment

    def _cut(
        self,
        step: SampleStep,
        theta: np.ndarray,
        fired: np.ndarray,
        moments: dict[int, Moment],
    ) -> SampleStep:
        """Return the step as it is for those that go on, and up to the event for the others."""
        end, t1 = step.x1, step.stretch.t1.copy()
        ended, changed = (np.zeros(len(t1), dtype=bool) for _ in range(2))
        # The first of several that happen at once comes last, and is the one that stays.
        for index in reversed(moments):
            if self.events[index].interrupts:
                positions = np.flatnonzero(fired[index])
                end = end.index_copy(0, rows(positions, end), moments[index].x)
                at, stretch = theta[index, positions], step.stretch.take(positions)
                t1[positions] = np.where(at == 1.0, stretch.t1, stretch.t + at * stretch.dt)
                ended[positions] |= bool(self.events[index].terminate)
                changed[positions] = True
        changed &= ~ended
        stretch = replace(step.stretch, t1=t1)
        cut = replace(step, stretch=stretch, end=end, ended=ended, changed=changed)
        if changed.any():
            cut.onwards = self._changed(cut, fired, moments)
        return cut

    def _changed(self, cut: SampleStep, fired: np.ndarray, moments: dict[int, Moment]) -> Tensor:
        """Apply what happens at events, one after the other where several happen at once."""
        onwards, delay = cut.x1, cut.x1.new_zeros(len(cut.x1))
        for index, moment in moments.items():
            chosen = fired[index] & bool(self.events[index].apply) & _of(cut.changed)
            within = np.flatnonzero(chosen[fired[index]])
            if len(within):
                place = rows(np.flatnonzero(chosen), onwards)
                here = rows(within, onwards)
                t, x = moment.t.index_select(0, here), onwards.index_select(0, place)
                onwards = onwards.index_copy(0, place, self.events[index].applied(t, x))
                delay = delay.index_copy(0, place, moment.delay.index_select(0, here))
        positions = np.flatnonzero(_of(cut.changed))
        place, stretch = rows(positions, onwards), cut.stretch.take(positions)
        after = onwards.index_select(0, place)
        slope = self.field(stretch.samples, stretch.t1, after)
        self._take_sides(stretch.samples, stretch.t1, after.detach(), slope.detach())
        return onwards.index_copy(0, place, gone_on(after, slope, delay.index_select(0, place)))

    def _take_sides(self, samples: np.ndarray, t: np.ndarray, x: Tensor, slope: Tensor) -> None:
        """Tell on which side of each event a sample will be next.

        One that stands on the event itself, but for rounding, will be where it is going.
        """
        times = _tensor(t, x)
        for index, event in enumerate(self.events):
            value = self._value(event, samples, t, x)
            speed = on_host(speed_of(event, times, x, slope)) * self.direction
            here = np.abs(value) <= _AT_ONCE * np.abs(speed) * np.maximum(1.0, np.abs(t))
            self.side[index, samples] = np.sign(np.where(here, speed, value))

    def _values(self, samples: np.ndarray, t: np.ndarray, x: Tensor) -> np.ndarray:
        """The conditions, ``(events, n)``."""
        return np.stack([self._value(event, samples, t, x) for event in self.events])

    @torch.no_grad()
    def _value(self, event: Event, samples: np.ndarray, t: np.ndarray, x: Tensor) -> np.ndarray:
        value = on_host(event.values(_tensor(t, x), x))
        if np.isnan(value).any():
            worst = int(np.isnan(value).argmax())
            raise NonFiniteStateError(
                "an event's condition is not a number here",
                t=float(t[worst]),
                dt=0.0,
                steps=self.stats.accepted + self.stats.rejected,
                nfe=self.stats.nfe,
                worst_sample=int(samples[worst]),
            )
        return value


def _of(mask: np.ndarray | None) -> np.ndarray:
    assert mask is not None  # a step that was cut says who goes on
    return mask


def _tensor(numbers: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(dtype=like.dtype, device=like.device)
