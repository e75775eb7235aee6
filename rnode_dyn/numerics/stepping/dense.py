"""States at the times that were asked for, read off the steps that pass them."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import RightHandSide


class StateReader:
    """Reads the states at ``times`` off the steps, in the order in which the steps pass them.

    Args:
        algorithm: Whose steps they are.
        rhs: The field, for those whose dense output evaluates it.
        times: When the states are wanted.
        note: What is told of each (row, state) that was read.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        rhs: RightHandSide,
        times: Sequence[float],
        note: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        self.algorithm, self.rhs, self.note = algorithm, rhs, note
        self.pending = deque(enumerate(times))

    def at_start(self, t0: float, x0: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the start where it was asked for."""
        if self.pending and self.pending[0][1] == t0:
            yield self._noted(self.pending.popleft()[0], x0)

    def within(self, step: Step) -> Iterator[tuple[int, Tensor]]:
        """Yield (row, state) for each time that ``step`` passes."""
        while self.pending and _passes(step, self.pending[0][1]):
            row, t = self.pending.popleft()
            yield self._noted(row, self.read(step, t))

    def _noted(self, row: int, state: Tensor) -> tuple[int, Tensor]:
        if self.note is not None:
            self.note(row, state)
        return row, state

    def read(self, step: Step, t: float) -> Tensor:
        """State at ``t`` within ``step``; its end, where only rounding tells them apart."""
        if math.isclose(t, step.t1, rel_tol=1e-12, abs_tol=1e-12 * abs(step.dt)):
            return step.x1
        return self.algorithm.interpolate(self.rhs, step, t)

    def all(self, x0: Tensor, t0: float, steps: Iterable[Step]) -> list[Tensor]:
        """Run through the steps and return the states at all times."""
        states = [state for _, state in self.at_start(t0, x0)]
        for step in steps:
            states += [state for _, state in self.within(step)]
        return states


def _passes(step: Step, t: float) -> bool:
    slack = 1e-12 * abs(step.dt)
    return (t - step.t1) * (1 if step.dt > 0 else -1) <= slack


class DenseSolution:
    """The state at any time of a solve, from its stored steps."""

    def __init__(self, algorithm: Algorithm, rhs: RightHandSide, steps: Sequence[Step]) -> None:
        self.reader = StateReader(algorithm, rhs, ())
        self.steps = list(steps)
        self.direction = 1 if self.steps[0].dt > 0 else -1
        self.starts = [self.direction * step.t for step in self.steps]

    def __call__(self, t: float) -> Tensor:
        """Return the state at ``t``."""
        index = bisect_right(self.starts, self.direction * t) - 1
        return self.reader.read(self.steps[max(index, 0)], t)
