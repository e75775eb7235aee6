"""States at the times that were asked for, read off the steps that pass them."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import RightHandSide


def save_times(
    t_span: tuple[float, float], save_at: Sequence[float] | Tensor | None
) -> list[float]:
    """Check the times to save the state at; left out, they are the two ends of the span.

    Raises:
        ValueError: if a time lies outside the span, or the times do not run its way.
    """
    if save_at is None:
        return list(t_span)
    if isinstance(save_at, int | float) or (isinstance(save_at, Tensor) and save_at.dim() != 1):
        raise TypeError(f"save_at is {save_at!r}; write a list of times, such as [0.5, 1.0].")
    times = [float(t) for t in save_at]
    t0, t1 = t_span
    ahead = 1 if t1 > t0 else -1
    if not times:
        raise ValueError("save_at is empty; leave it out, or name the times to save the state at.")
    outside = [t for t in times if not min(t0, t1) <= t <= max(t0, t1)]
    if outside:
        raise ValueError(f"save_at asks for t = {outside[0]}, outside the time span ({t0}, {t1}).")
    if any(ahead * (after - before) <= 0 for before, after in pairwise(times)):
        raise ValueError(
            f"save_at must run from {t0} towards {t1} without repeating a time: sort it"
            f"{', largest first' if ahead < 0 else ''}."
        )
    return times


class StateReader:
    """Reads the states at ``times`` off the steps, in the order in which the steps pass them."""

    def __init__(self, algorithm: Algorithm, rhs: RightHandSide, times: Sequence[float]) -> None:
        self.algorithm, self.rhs = algorithm, rhs
        self.pending = deque(enumerate(times))

    def at_start(self, t0: float, x0: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the start where it was asked for."""
        if self.pending and self.pending[0][1] == t0:
            yield self.pending.popleft()[0], x0

    def within(self, step: Step) -> Iterator[tuple[int, Tensor]]:
        """Yield (row, state) for each time that ``step`` passes."""
        while self.pending and _passes(step, self.pending[0][1]):
            row, t = self.pending.popleft()
            yield row, self.read(step, t)

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
