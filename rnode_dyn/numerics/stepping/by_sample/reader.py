"""States at the times that were asked for, read off steps that are each sample's own."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep, rows

# Rows of the flat (time, sample) grid of what was asked for, and the states there.
Piece = tuple[np.ndarray, Tensor]


class SampleReader:
    """Reads the states at ``times`` off the steps, as far as each sample has come.

    Args:
        algorithm: What made the steps.
        times: The times, in the direction of the solve.
        batch: How many samples.
    """

    def __init__(self, algorithm: Algorithm, times: Sequence[float], batch: int) -> None:
        self.algorithm, self.times, self.batch = algorithm, np.asarray(times, dtype=float), batch
        # How many of the times each sample has passed.
        self.passed = np.zeros(batch, dtype=int)

    def at_start(self, t0: float, x0: Tensor) -> Iterator[Piece]:
        """Yield the start where it was asked for."""
        if self.times[0] == t0:
            self.passed[:] = 1
            yield np.arange(self.batch), x0

    def within(self, step: SampleStep) -> Iterator[Piece]:
        """Yield what a step passes, one time of each sample after the other."""
        while len(positions := np.flatnonzero(self._passes(step))):
            samples = step.stretch.samples[positions]
            upcoming = self.passed[samples]
            yield from self._read(step, positions, upcoming)
            self.passed[samples] += 1
        if step.ended is not None:
            yield from self._rest(step, np.flatnonzero(step.ended))

    def _rest(self, step: SampleStep, positions: np.ndarray) -> Iterator[Piece]:
        """Yield the states in which samples stay, for all times that are left."""
        samples = step.stretch.samples[positions].tolist()
        for position, sample in zip(positions.tolist(), samples, strict=True):
            left = np.arange(int(self.passed[sample]), len(self.times))
            self.passed[sample] = len(self.times)
            if len(left):
                place = rows(np.full(len(left), position), step.x1)
                yield left * self.batch + sample, step.x1.index_select(0, place)

    def _passes(self, step: SampleStep) -> np.ndarray:
        stretch = step.stretch
        upcoming = self.passed[stretch.samples]
        there = upcoming < len(self.times)
        beyond = self.times[np.minimum(upcoming, len(self.times) - 1)] - stretch.t1
        return there & (beyond * np.sign(stretch.dt) <= 1e-12 * np.abs(stretch.dt))

    def _read(
        self, step: SampleStep, positions: np.ndarray, upcoming: np.ndarray
    ) -> Iterator[Piece]:
        """Yield states at their ends and states within, which differ in how they are got."""
        stretch, times = step.stretch.take(positions), self.times[upcoming]
        flat = upcoming * self.batch + stretch.samples
        slack = np.maximum(1e-12 * np.abs(stretch.dt), 1e-12 * np.abs(times))
        at_end = np.abs(times - stretch.t1) <= slack
        if at_end.any():
            yield flat[at_end], step.x1.index_select(0, rows(positions[at_end], step.x1))
        if not at_end.all():
            theta = ((times - stretch.t) / stretch.dt)[~at_end]
            yield flat[~at_end], step.take(positions[~at_end]).at(self.algorithm, theta)

    def all(self, x0: Tensor, t0: float, steps: Iterable[SampleStep]) -> Tensor:
        """Run through the steps and return the states, ``(len(times), batch, *event)``."""
        pieces = list(self.at_start(t0, x0))
        for step in steps:
            pieces += self.within(step)
        return self.assembled(pieces)

    def assembled(self, pieces: Iterable[Piece]) -> Tensor:
        """Put the pieces in their rows."""
        flat, states = zip(*pieces, strict=True)
        order = np.argsort(np.concatenate(flat))
        together = torch.cat(states)
        together = together.index_select(0, rows(order, together))
        return together.reshape(len(self.times), self.batch, *together.shape[1:])
