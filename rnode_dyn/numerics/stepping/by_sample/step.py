"""One step of several samples, each from a time of its own and of its own length.

In the time s from 0 to 1 that they share, dx/ds = dt · f(t + s dt, x): every algorithm makes this
step without knowing of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Fractions, Step, scaled
from rnode_dyn.numerics.jacobian import Linearization
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.stepping.by_sample.field import SampleField


@dataclass(frozen=True)
class Stretch:
    """Where each of some samples is, and how far it will go.

    Args:
        samples: Their places in the batch, ``(n,)``.
        t: Start times, ``(n,)``.
        dt: Signed lengths, ``(n,)``.
        t1: End times, which ``t + dt`` may miss by rounding.
    """

    samples: np.ndarray
    t: np.ndarray
    dt: np.ndarray
    t1: np.ndarray

    def take(self, positions: np.ndarray) -> "Stretch":
        """Return that of some of them."""
        return Stretch(*(part[positions] for part in (self.samples, self.t, self.dt, self.t1)))

    def at(self, theta: np.ndarray | float) -> np.ndarray:
        """Return the times at fractions of the way, ``(n,)``."""
        return np.where(np.equal(theta, 1.0), self.t1, self.t + theta * self.dt)


@dataclass(frozen=True)
class StretchedField:
    """The field in the time from 0 to 1 of a stretch."""

    field: SampleField
    stretch: Stretch

    def __call__(self, s: float | Fractions, x: Tensor) -> Tensor:
        """Return dx/ds."""
        stretch = self.stretch
        return scaled(self.field(stretch.samples, stretch.at(s), x), stretch.dt)

    @property
    def problem(self) -> ODEProblem:
        """Whose field it is."""
        return self.field.counted.problem

    def part(self, of: Callable[[Tensor], Tensor], x: Tensor, counts: bool = True) -> Tensor:
        """Evaluate a part of the field in that time."""
        stretch = self.stretch
        return scaled(self.field.part(stretch.samples, of, x, counts), stretch.dt)

    def linearize(self, s: float, x: Tensor) -> Linearization:
        """Return its derivatives in that time, for methods that solve with them."""
        stretch = self.stretch
        at = self.field.linearize(stretch.samples, stretch.at(s), x)
        return Linearization(
            scaled(at.by_state, stretch.dt), scaled(at.by_time, stretch.dt * stretch.dt)
        )

    def count(self, name: str) -> None:
        """Count one more of something in the forward solve."""
        self.field.counted.count(name)


@dataclass(eq=False)
class SampleStep:
    """One step of several samples, whole or cut short.

    Args:
        stretch: From where to where; ``t1`` is where a step was cut, ``dt`` the whole length.
        unit: The whole step in a time from 0 to 1.
        rhs: The field in that time.
        end: States at ``t1``, where some step was cut.
        ended: Which samples stay there for good, ``(n,)``.
        changed: Which samples go on from another state, ``(n,)``.
        onwards: The states that all go on from, where some do so.
    """

    stretch: Stretch
    unit: Step
    rhs: StretchedField
    end: Tensor | None = None
    ended: np.ndarray | None = None
    changed: np.ndarray | None = None
    onwards: Tensor | None = None

    @property
    def x0(self) -> Tensor:
        """States at the start, ``(n, *event)``."""
        return self.unit.x0

    @property
    def x1(self) -> Tensor:
        """States at the end, ``(n, *event)``."""
        return self.unit.x1 if self.end is None else self.end

    def take(self, positions: np.ndarray) -> "SampleStep":
        """Return the whole step of some of its samples, by their positions in it."""
        if len(positions) == len(self.stretch.samples):
            return self
        unit, places = self.unit, rows(positions, self.unit.x0)
        x0, x1, *slopes = (
            tensor.index_select(0, places) for tensor in (unit.x0, unit.x1, *unit.slopes)
        )
        end = None if unit.end_slope is None else unit.end_slope.index_select(0, places)
        by = None if unit.made_by is None else unit.made_by.of_samples(places)
        taken = replace(
            unit, x0=x0, x1=x1, slopes=tuple(slopes), error=None, end_slope=end, made_by=by
        )
        stretch = self.stretch.take(positions)
        return SampleStep(stretch, taken, StretchedField(self.rhs.field, stretch))

    def without_graph(self) -> "SampleStep":
        """Return a copy cut off from autograd's record, for whoever only looks.

        What dense output evaluates for it is kept by the copy alone: without a graph it must not
        come into a step that has one.
        """
        unit = self.unit
        x0, x1, *slopes = (tensor.detach() for tensor in (unit.x0, unit.x1, *unit.slopes))
        end = None if unit.end_slope is None else unit.end_slope.detach()
        bare = replace(unit, x0=x0, x1=x1, slopes=tuple(slopes), error=None, end_slope=end)
        return SampleStep(self.stretch, bare, self.rhs)

    def at(self, algorithm: Algorithm, theta: Fractions) -> Tensor:
        """Return the states at fractions of the whole step, ``(n, *event)``."""
        return algorithm.interpolate_each(self.rhs, self.unit, theta)

    def slope_at(self, algorithm: Algorithm, theta: Fractions) -> Tensor | None:
        """Return dx/dt of dense output there, ``(n, *event)``; ``None``: it is the field's."""
        slope = algorithm.slope_each(self.unit, theta)
        return None if slope is None else scaled(slope, 1 / self.stretch.dt)

    def between(self, algorithm: Algorithm, fractions: np.ndarray) -> Tensor:
        """Return states at fractions of the whole step, the same for all: some only guessed.

        Where dense output would evaluate the field they lie on a cubic. For that the field at the
        end is evaluated where it is not known; the next step begins with it.

        Args:
            algorithm: What made the step.
            fractions: ``(k,)``.

        Returns:
            ``(k, n, *event)``, with no gradient.
        """
        known = algorithm.states_between(self.unit, fractions)
        return self._cubic(fractions) if known is None else known

    def _cubic(self, fractions: np.ndarray) -> Tensor:
        unit, rise = self.unit, fractions * fractions * (3 - 2 * fractions)
        parts = [unit.x0, unit.x1 - unit.x0, unit.slopes[0], unit.slope_at_end(self.rhs)]
        first, last = fractions * (1 - fractions) ** 2, fractions * fractions * (fractions - 1)
        weights = times_like(np.stack([np.ones_like(rise), rise, first, last], 1), unit.x0)
        return torch.tensordot(weights, torch.stack(parts).detach(), dims=1)


class Maker(Protocol):
    """What makes steps: :func:`make_step`, or what makes them differentiable in its own way."""

    def __call__(
        self,
        algorithm: Algorithm,
        field: SampleField,
        stretch: Stretch,
        x: Tensor,
        slope: Tensor | None,
    ) -> SampleStep:
        """Make one step."""
        ...


class Watcher(Protocol):
    """What looks at the steps of a solve as they are made, and may cut them short."""

    def begin(self, t: float, x: Tensor, slope: Tensor) -> None:
        """Look at the start."""
        ...

    def look(self, step: SampleStep) -> SampleStep:
        """Return an accepted step, as it is or cut short."""
        ...


def make_step(
    algorithm: Algorithm,
    field: SampleField,
    stretch: Stretch,
    x: Tensor,
    slope: Tensor | None,
) -> SampleStep:
    """Make one step.

    Args:
        algorithm: How.
        field: The field.
        stretch: From where to where.
        x: States at the start, ``(n, *event)``.
        slope: The field there; evaluated, where it is not given.
    """
    rhs = StretchedField(field, stretch)
    first = rhs(0.0, x) if slope is None else scaled(slope, stretch.dt)
    return SampleStep(stretch, algorithm.advance(rhs, 0.0, 1.0, x, first), rhs)


def times_like(numbers: np.ndarray, like: Tensor) -> Tensor:
    """Numbers of the host as a tensor of the kind that states are."""
    return torch.from_numpy(numbers).to(dtype=like.dtype, device=like.device)


def rows(positions: np.ndarray, like: Tensor) -> Tensor:
    """Positions as an index where a tensor is."""
    return torch.from_numpy(positions).to(like.device)
