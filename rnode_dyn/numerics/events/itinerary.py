"""What each sample of a solve with events comes by, in its order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rnode_dyn.numerics.stepping.by_sample.step import SampleStep


@dataclass(frozen=True)
class Halt:
    """A time at which one sample's state is asked for: that of an event, or one to save it at.

    Attributes:
        t: The time.
        x: The state then, ``(*event,)``.
        row: Which of the saved times it is.
        events: Which events happen there.
        onwards: The state that the solve goes on from, where an event changes it.
        ends: Whether the solve ends there.
        slope: dx/dt of dense output there, where it is not the field's.
    """

    t: float
    x: Tensor
    row: int | None = None
    events: tuple[int, ...] = ()
    onwards: Tensor | None = None
    ends: bool = False
    slope: Tensor | None = None


class Itinerary:
    """The halts of every sample, noted while a solve goes on.

    Args:
        batch: How many samples.
        direction: 1 where time runs forward, −1 where it runs backward.
    """

    def __init__(self, batch: int, direction: int) -> None:
        self.direction = direction
        self.halts: list[list[Halt]] = [[] for _ in range(batch)]
        self.upcoming: list[tuple[int, ...]] = [() for _ in range(batch)]
        self.slopes: list[Tensor | None] = [None] * batch

    def note(
        self,
        index: int,
        samples: np.ndarray,
        t: np.ndarray,
        x: Tensor,
        slope: Tensor | None,
        interrupts: bool,
    ) -> None:
        """Note an event of some samples; of those that interrupt them, the turn tells when."""
        for position, sample in enumerate(samples.tolist()):
            there = None if slope is None else slope[position]
            if interrupts:
                self.upcoming[sample] += (index,)
                self.slopes[sample] = there
            else:
                halt = Halt(float(t[position]), x[position], events=(index,), slope=there)
                self.halts[sample].append(halt)

    def turn(self, cut: SampleStep) -> None:
        """Note where samples have been interrupted, and how they go on."""
        for position, sample in enumerate(cut.stretch.samples.tolist()):
            events, self.upcoming[sample] = self.upcoming[sample], ()
            if events:
                ends = bool(cut.ended is not None and cut.ended[position])
                onwards = None if ends or cut.onwards is None else cut.onwards[position]
                t, slope = float(cut.stretch.t1[position]), self.slopes[sample]
                halt = Halt(t, cut.x1[position], None, events, onwards, ends, slope)
                self.halts[sample].append(halt)

    def with_saved(self, times: Sequence[float], x: Tensor) -> list[list[Halt]]:
        """Return each sample's halts in their order, those at the saved times among them.

        Args:
            times: The saved times.
            x: The states there, ``(len(times), batch, *event)``.
        """
        return [
            sorted([*self._saved(halts, times, x[:, sample]), *halts], key=self._place)
            for sample, halts in enumerate(self.halts)
        ]

    def _saved(self, halts: Sequence[Halt], times: Sequence[float], x: Tensor) -> Iterator[Halt]:
        """The saved times of a sample until its end."""
        end = max((self.direction * halt.t for halt in halts if halt.ends), default=np.inf)
        for row, t in enumerate(times):
            if self.direction * t < end:
                yield Halt(t, x[row], row)

    def _place(self, halt: Halt) -> float:
        """What halts are put in order by: a state saved at an event is that before it."""
        slack = 0.0 if halt.row is None else 1e-12 * max(1.0, abs(halt.t))
        return self.direction * halt.t - slack
