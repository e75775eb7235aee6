"""Where within a step the conditions of events change sign."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.errors import NonFiniteStateError
from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.moment import speed_of
from rnode_dyn.numerics.events.roots import first_behind
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.by_sample.control import on_host
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep, times_like

# Width in time, relative to the times, of the bracket that an event is found in.
_WIDTH = 1e-14
# A condition that would be zero this much earlier or later, relative to the times, counts as zero.
AT_ONCE = 1e-10


@dataclass(frozen=True)
class Crossing:
    """One change of sign of an event's condition in a step, for some of the step's samples.

    Attributes:
        index: Which event.
        positions: Positions of the samples in the step, ``(n,)``.
        theta: Where in the step, as fractions of it, ``(n,)``.
    """

    index: int
    positions: np.ndarray
    theta: np.ndarray

    def take(self, chosen: np.ndarray) -> "Crossing":
        """Return that of the chosen ones, a mask ``(n,)``."""
        return Crossing(self.index, self.positions[chosen], self.theta[chosen])


class CrossingFinder:
    """Knows on which side of every event each sample is, and sees where it changes.

    Args:
        events: The events.
        algorithm: What makes the steps.
        stats: The solve's cost, for errors.
        batch: How many samples.
        direction: 1 where time runs forward, −1 where it runs backward.
    """

    def __init__(
        self,
        events: Sequence[Event],
        algorithm: Algorithm,
        stats: SolveStats,
        batch: int,
        direction: int,
    ) -> None:
        self.events, self.algorithm, self.stats = tuple(events), algorithm, stats
        self.direction = direction
        # The sign of each condition just behind where each sample is; 0: it cannot be told.
        self.side = np.zeros((len(events), batch))

    def stand(self, samples: np.ndarray, t: np.ndarray, x: Tensor, slope: Tensor) -> None:
        """Tell on which side of each event samples will be next that go on from here.

        One that stands on the event itself, but for rounding, will be where it is going.
        """
        times = times_like(t, x)
        for index, event in enumerate(self.events):
            value = self._sure(event, samples, t, x)
            speed = on_host(speed_of(event, times, x, slope)) * self.direction
            here = np.abs(value) <= AT_ONCE * np.abs(speed) * np.maximum(1.0, np.abs(t))
            self.side[index, samples] = np.sign(np.where(here, speed, value))

    def find(self, step: SampleStep) -> tuple[list[Crossing], np.ndarray]:
        """Return the crossings of a step, each event's in their order, and the sides at its end.

        Between the ends a condition is looked at where that costs no evaluation, on a cubic or on
        the method's own dense output; where it changes sign there, on the latter.
        """
        found: list[Crossing] = []
        ends = []
        for index in range(len(self.events)):
            sides = self._rough_sides(index, step)
            end = sides[-1].copy()
            moved = ((sides[:-1] * sides[1:] < 0) | (sides[1:] == 0)).any(0)
            if moved.any():
                crossings, end[moved] = self._crossings(index, step, np.flatnonzero(moved))
                found += crossings
            ends.append(end)
        return found, np.array(ends).reshape(len(ends), len(step.stretch.samples))

    def _rough_sides(self, index: int, step: SampleStep) -> np.ndarray:
        """The sides along a step, by a guess; 0 where the condition is not a number there."""
        event, stretch = self.events[index], step.stretch
        before = self.side[index, stretch.samples]
        at_end = self._sure(event, stretch.samples, stretch.t1, step.x1.detach())
        fractions = points_within(event)
        if not len(fractions):
            return _sides(before, [at_end])
        # Not without a graph: the field at the end that this evaluates is the next step's first.
        guesses = step.between(self.algorithm, fractions)
        with torch.no_grad():
            between = [
                on_host(event.values(times_like(stretch.at(theta), x), x))
                for theta, x in zip(fractions, guesses, strict=True)
            ]
        return _sides(before, [*between, at_end])

    @torch.no_grad()
    def _crossings(
        self, index: int, step: SampleStep, positions: np.ndarray
    ) -> tuple[list[Crossing], np.ndarray]:
        """What samples cross that were seen to change sides, and their sides at the end."""
        event, part = self.events[index], step.without_graph().take(positions)
        ends = np.array([0.0, *points_within(event), 1.0])
        values = [self._along(event, part, np.full(len(positions), s)) for s in ends[1:]]
        sides = _sides(self.side[index, part.stretch.samples], values)
        found = []
        for low, high, before, after, value in zip(
            ends, ends[1:], sides, sides[1:], values, strict=False
        ):
            wanted = (before * after < 0) & ((event.direction == 0) | (after == event.direction))
            chosen = np.flatnonzero(wanted)
            if len(chosen):
                bracket = (float(low), float(high))
                theta = self._locate(
                    event, part.take(chosen), bracket, before[chosen], value[chosen]
                )
                found.append(Crossing(index, positions[chosen], theta))
        return found, sides[-1]

    @torch.no_grad()
    def _locate(
        self,
        event: Event,
        part: SampleStep,
        bracket: tuple[float, float],
        before: np.ndarray,
        at_end: np.ndarray,
    ) -> np.ndarray:
        """Return where in the bracket a condition changes its sign."""
        low, size = bracket[0], bracket[1] - bracket[0]
        stretch = part.stretch
        scale = np.maximum(np.abs(stretch.t), np.abs(stretch.t1)) / np.abs(stretch.dt)
        width = np.maximum(_WIDTH * scale, 4 * np.finfo(float).eps) / size
        behind = first_behind(
            lambda s: self._along(event, part, low + s * size), before, at_end, width
        )
        return np.where(behind == 1.0, bracket[1], low + behind * size)

    def _along(self, event: Event, part: SampleStep, theta: np.ndarray) -> np.ndarray:
        """The condition at fractions of a step, by the method's own dense output."""
        stretch = part.stretch
        if (theta == 1.0).all():
            return self._sure(event, stretch.samples, stretch.t1, part.x1.detach())
        x = part.at(self.algorithm, theta).detach()
        return self._sure(event, stretch.samples, stretch.at(theta), x)

    @torch.no_grad()
    def _sure(self, event: Event, samples: np.ndarray, t: np.ndarray, x: Tensor) -> np.ndarray:
        """The condition where the solve has been: it must be a number there."""
        value = on_host(event.values(times_like(t, x), x))
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


def points_within(event: Event) -> np.ndarray:
    """The fractions of a step at which an event is looked for between the step's ends."""
    return np.arange(1, event.interp_points + 1) / (event.interp_points + 1)


def _sides(before: np.ndarray, values: Sequence[np.ndarray]) -> np.ndarray:
    """The sides that follow from values in their order, ``(len(values) + 1, n)``.

    Zero is the other side of where a sample came from. What is not a number has none.
    """
    sides = [before]
    for value in values:
        sides.append(np.where(value == 0, -sides[-1], np.nan_to_num(np.sign(value))))
    return np.stack(sides)
