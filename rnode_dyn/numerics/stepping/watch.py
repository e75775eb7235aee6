"""What a solve has come to while it runs: kept for the time after it, or for its early end."""

import copy
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step


class SolveWatch:
    """Sees every accepted step and every saved state of one forward solve.

    Args:
        keeps_steps_of: The algorithm whose steps are kept, for reading states between their ends.
            Those of another, which a sensitivity may put in its place, only that could read.
        listeners: What is called with each accepted step.

    Attributes:
        steps: The steps that were kept.
        saved: Saved states by their rows.
        last: Time and state that the solve has come to; ``None`` before its first step.
    """

    def __init__(
        self,
        keeps_steps_of: Algorithm | None = None,
        listeners: Sequence[Callable[[Step], object]] = (),
    ) -> None:
        self.keeps_steps_of, self.listeners = keeps_steps_of, listeners
        self.steps: list[Step] = []
        self.saved: dict[int, Tensor] = {}
        self.last: tuple[float, Tensor] | None = None

    def over(self, steps: Iterator[Step], algorithm: Algorithm) -> Iterator[Step]:
        """Pass the steps of an algorithm on."""
        keeps = algorithm is self.keeps_steps_of
        for step in steps:
            self.last = (step.t1, step.x1)
            if keeps:
                self._keep(step)
            for listener in self.listeners:
                # One of its own: whoever steps may empty the other.
                listener(copy.copy(step))
            yield step

    def _keep(self, step: Step) -> None:
        if self.steps and self.steps[-1].end_slope is None:
            # One step's first slope is the field at the end of the step before.
            self.steps[-1].end_slope = step.slopes[0]
        self.steps.append(step)

    def note_saved(self, row: int, state: Tensor) -> None:
        """Note a state that was read off a step."""
        self.saved[row] = state

    def forget(self) -> None:
        """Let go of everything, once the solve is done: whoever steps may live longer."""
        self.steps, self.saved, self.last = [], {}, None

    def end(self, start: float) -> float:
        """Return the time that the solve has come to, ``start`` where it made no step."""
        return start if self.last is None else self.last[0]

    def until(self, t: float, direction: int) -> list[Step]:
        """Return the steps that were kept and end no later than ``t``."""
        return [step for step in self.steps if direction * (t - step.t1) >= 0]

    def rows(
        self, times: Sequence[float], until: float, direction: int
    ) -> list[tuple[float, Tensor]]:
        """Return (time, state) of what was saved no later than ``until``, and of the state then.

        Args:
            times: When states were to be saved.
            until: Time of the last sound state.
            direction: Of time.
        """
        saved = [(t, self.saved[row]) for row, t in enumerate(times) if row in self.saved]
        ends = [(step.t1, step.x1) for step in self.until(until, direction)[-1:]]
        ends += [] if self.last is None else [self.last]
        passed = [row for row in saved if direction * (until - row[0]) >= 0]
        last = [end for end in ends if end[0] == until and until not in dict(passed)]
        return passed + last[:1]
