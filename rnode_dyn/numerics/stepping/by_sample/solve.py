"""A solve whose samples step by themselves."""

import sys
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, scaled
from rnode_dyn.numerics.errors import (
    MaxSecondsError,
    MaxStepsError,
    NewtonError,
    NonFiniteStateError,
    SolverError,
    StepSizeUnderflowError,
)
from rnode_dyn.numerics.stepping.by_sample.control import Control
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.step import (
    Maker,
    SampleStep,
    Stretch,
    Watcher,
    make_step,
    rows,
)
from rnode_dyn.numerics.stepping.deadline import Deadline, too_long
from rnode_dyn.numerics.stepping.error_norm import worst_sample

# Error over tolerance above which the states within a step are no guess of the solution at all.
_ASTRAY = 100.0


class SampleSolve:
    """The state of one solve; ``run`` yields the accepted steps.

    Times, lengths and errors are arrays on the host, where they are chosen; one reading of the
    device a step tells all errors. A sample that has arrived is not evaluated any more.
    """

    def __init__(
        self,
        control: Control,
        algorithm: Algorithm,
        field: SampleField,
        x: Tensor,
        t_span: tuple[float, float],
        watcher: Watcher | None = None,
        make: Maker = make_step,
    ) -> None:
        self.control, self.field = control, field
        self.algorithm = algorithm.started(control.tolerances)
        self.make = make
        self.t_span, self.watcher, self.x = t_span, watcher, x
        self.direction = 1 if t_span[1] > t_span[0] else -1
        self.stats = field.counted.stats
        # Of the samples still on their way: their places, times, next lengths and steps tried.
        self.samples = np.arange(len(x))
        self.t = np.full(len(x), t_span[0])
        self.tried = np.zeros(len(x), dtype=int)
        self.deadline = Deadline(control.max_seconds)

    def run(self) -> Iterator[SampleStep]:
        """Yield the accepted steps of those samples that accept one, attempt by attempt."""
        self.slope = self._first_slopes()
        if self.watcher is not None:
            self.watcher.begin(self.t_span[0], self.x, self.slope)
        self.length = self.control.first(self.field, self.t_span, self.x, self.slope)
        while len(self.samples):
            step = self._try()
            ratio = self.control.ratio(step)
            passed = np.flatnonzero(ratio <= 1.0)
            self._note(ratio)
            self.length = self.control.following(step, self.length, ratio)
            self._check_lengths(step, ratio)
            if len(passed):
                accepted = self._accepted(step, passed, ratio)
                accepted = accepted if self.watcher is None else self.watcher.look(accepted)
                yield accepted
                self._go_on(accepted, passed)

    def _first_slopes(self) -> Tensor:
        t0 = self.t_span[0]
        if not bool(torch.isfinite(self.x).all()):
            self._fail_at_start("the state to start from is not finite", self.x)
        slope = self.field.at_start(t0, self.x)
        if not bool(torch.isfinite(slope).all()):
            self._fail_at_start("the field is not finite at the start", slope)
        return slope

    def _try(self) -> SampleStep:
        """Make one step of each sample."""
        remaining = np.abs(self.t_span[1] - self.t)
        # A step that would leave a sliver takes it along.
        last = self.length >= remaining * (1 - 1e-6)
        dt = np.where(last, self.t_span[1] - self.t, self.direction * self.length)
        t1 = np.where(last, self.t_span[1], self.t + dt)
        self._spend_step(dt)
        stretch = Stretch(self.samples, self.t, dt, t1)
        return self.make(self.algorithm, self.field, stretch, self.x, self.slope)

    def _note(self, ratio: np.ndarray) -> None:
        """Count the steps."""
        passed = ratio <= 1.0
        for name, these in (("accepted", passed), ("rejected", ~passed)):
            setattr(self.stats, name, getattr(self.stats, name) + int(these.sum()))
            counts = getattr(self.stats, f"{name}_per_sample")
            counts[torch.from_numpy(self.samples[these])] += 1

    def _accepted(self, step: SampleStep, passed: np.ndarray, ratio: np.ndarray) -> SampleStep:
        """The step of those that accept it, with a graph through which all gradients are finite.

        A sample that went astray would send NaN back, 0 · ∞, into what all samples share: the step
        is made again without it.
        """
        if torch.is_grad_enabled() and (ratio > _ASTRAY).any():
            places = rows(passed, self.x)
            x, slope = self.x.index_select(0, places), self.slope.index_select(0, places)
            part = step.take(passed)
            by = part.unit.made_by or self.algorithm
            return self.make(by, self.field, part.stretch, x, slope)
        return step.take(passed)

    def _go_on(self, accepted: SampleStep, passed: np.ndarray) -> None:
        """Put those that accepted where they have come, and let those go that have arrived."""
        onwards = accepted.x1 if accepted.onwards is None else accepted.onwards
        self.t = self.t.copy()
        self.t[passed] = accepted.stretch.t1
        self.x = self._replaced(self.x, rows(passed, self.x), onwards)
        on_the_way = self.t != self.t_span[1]
        if accepted.ended is not None:
            on_the_way[passed] &= ~accepted.ended
        self._renew_slopes(accepted, passed, on_the_way)
        self._begin_anew(accepted, passed)
        if not on_the_way.all():
            self._keep(np.flatnonzero(on_the_way))

    def _renew_slopes(
        self, accepted: SampleStep, passed: np.ndarray, on_the_way: np.ndarray
    ) -> None:
        """Know the field where each sample is now, but for one that has arrived."""
        known, wanted = accepted.unit.end_slope, on_the_way[passed]
        if known is not None:
            end = scaled(known, 1 / accepted.stretch.dt)
            self.slope = self._replaced(self.slope, rows(passed, self.x), end)
            changed = accepted.changed
            wanted = wanted & changed if changed is not None else np.zeros_like(wanted)
        positions = passed[wanted]
        if len(positions):
            places = rows(positions, self.x)
            x = self.x.index_select(0, places)
            there = self.field(self.samples[positions], self.t[positions], x)
            self.slope = self._replaced(self.slope, places, there)

    def _begin_anew(self, accepted: SampleStep, passed: np.ndarray) -> None:
        """Choose other lengths where a sample goes on from another state."""
        if accepted.changed is not None:
            these = passed[accepted.changed]
            remaining = np.abs(self.t_span[1] - self.t[these])
            self.length[these] = self.control.anew(remaining, self.length[these])

    @staticmethod
    def _replaced(tensor: Tensor, places: Tensor, part: Tensor) -> Tensor:
        return part if len(part) == len(tensor) else tensor.index_copy(0, places, part)

    def _keep(self, positions: np.ndarray) -> None:
        places = rows(positions, self.x)
        self.samples, self.t = self.samples[positions], self.t[positions]
        self.length, self.tried = self.length[positions], self.tried[positions]
        self.x, self.slope = (s.index_select(0, places) for s in (self.x, self.slope))

    def _spend_step(self, dt: np.ndarray) -> None:
        spent = self.tried >= self.control.max_steps
        if spent.any():
            # A ball that comes to rest bounces infinitely often, with a step for each time.
            events = "" if self.watcher is None else "; or its events come ever sooner, without end"
            reason = self.control.too_many + events
            self._fail(MaxStepsError, reason, int(spent.argmax()), dt)
        if self.deadline.has_passed:
            self._fail(MaxSecondsError, too_long(self.control.max_seconds), 0, dt)
        self.tried = self.tried + 1

    def _check_lengths(self, step: SampleStep, ratio: np.ndarray) -> None:
        """Give up once a sample's steps no longer move its time."""
        t = step.stretch.t
        # The field is given the time in the state's precision; the stepping itself has a float's.
        of_the_field = 4 * torch.finfo(self.x.dtype).eps * np.abs(t)
        of_the_stepping = 4 * sys.float_info.epsilon * np.maximum(np.abs(t), abs(self.t_span[1]))
        short = (ratio > 1.0) & (self.length <= np.maximum(of_the_field, of_the_stepping))
        if not short.any():
            return
        worst = int(np.where(short, ratio, -np.inf).argmax())
        dt = self.direction * self.length
        if np.isinf(ratio[worst]) and step.unit.failure is not None:
            self._fail(NewtonError, step.unit.failure, worst, dt)
        if np.isinf(ratio[worst]):
            reason = "the state or the field is not finite right after this time"
            self._fail(NonFiniteStateError, reason, worst, dt)
        reason = (
            "the tolerance asks for a step too short to change the time in this precision: "
            "raise rtol and atol, or solve in float64"
        )
        self._fail(StepSizeUnderflowError, reason, worst, dt)

    def _fail(self, kind: type[SolverError], reason: str, worst: int, dt: np.ndarray) -> NoReturn:
        """Raise for the sample at a position among those on their way."""
        raise kind(
            reason,
            t=float(self.t[worst]),
            dt=float(dt[worst]),
            steps=int(self.tried[worst]),
            nfe=self.stats.nfe + self.stats.nfe_backward,
            worst_sample=int(self.samples[worst]),
        )

    def _fail_at_start(self, reason: str, blame: Tensor) -> NoReturn:
        self._fail(NonFiniteStateError, reason, int(worst_sample(blame)), np.zeros(len(self.x)))
