"""Solving again from halt to halt, by a sensitivity that steps whole batches.

A solve with events is first made without a gradient, and tells where each sample halts. Between
two halts samples run over spans of their own, [aᵢ, bᵢ]; in the time s from 0 to 1 that they share,
dx/ds = (bᵢ − aᵢ) f(aᵢ + s (bᵢ − aᵢ), x) is one problem of one batch, which every sensitivity
solves and differentiates. The times of halts stand still; what moves them is in their moments.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import scaled
from rnode_dyn.numerics.checks import check
from rnode_dyn.numerics.events.event import Event
from rnode_dyn.numerics.events.found import Found
from rnode_dyn.numerics.events.itinerary import Halt
from rnode_dyn.numerics.events.moment import Moment, gone_on, moment_of
from rnode_dyn.numerics.hamiltonian import Separated
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.opaque import field_wants_a_gradient
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.adaptive import AdaptiveStep
from rnode_dyn.numerics.stepping.base import Stepping
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.step import rows, times_like
from rnode_dyn.numerics.stepping.fixed import FixedStep
from rnode_dyn.numerics.stepping.integrator import Integrator
from rnode_dyn.numerics.stepping.watch import SolveWatch

_ANOTHER_APPLY = (
    "an event's apply returned another state when it was asked again, as this sensitivity does for "
    "its gradient: let it draw no random numbers, or take DiscreteAdjoint()."
)


class LegField:
    """The field in the time from 0 to 1 in which samples run from one halt to the next.

    Args:
        there: The field of these samples, of times ``(n,)`` and states ``(n, *event)``.
        start: Times at 0.
        length: Signed lengths.
    """

    def __init__(
        self, there: Callable[[Tensor, Tensor], Tensor], start: np.ndarray, length: np.ndarray
    ) -> None:
        self.there, self.start, self.length = there, start, length

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Return dx/ds."""
        start, length = (times_like(part, x) for part in (self.start, self.length))
        return scaled(self.there(start + t * length, x), self.length)


class SeparatedLegField(LegField):
    """The same of a separable Hamiltonian, whose halves are told no time.

    Args:
        there: The field of these samples.
        start: Times at 0.
        length: Signed lengths.
        separated: The two halves.
    """

    def __init__(
        self,
        there: Callable[[Tensor, Tensor], Tensor],
        start: np.ndarray,
        length: np.ndarray,
        separated: Separated,
    ) -> None:
        super().__init__(there, start, length)
        self.halves = separated

    @property
    def separated(self) -> Separated:
        """Its two halves."""
        return self

    def velocity(self, p: Tensor) -> Tensor:
        """Return dq/ds."""
        return scaled(self.halves.velocity(p), self.length)

    def force(self, q: Tensor) -> Tensor:
        """Return dp/ds."""
        return scaled(self.halves.force(q), self.length)


class Legs:
    """Makes a solve with events again, differentiable by a sensitivity's own means.

    The numbers are those of the first solve; the gradient is that of the second.

    Args:
        problem: What is solved.
        integrator: How.
        sensitivity: How each leg is differentiated.
        events: What happens at the halts.
        field: The field of the first solve.
    """

    def __init__(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        sensitivity: Sensitivity,
        events: Sequence[Event],
        field: SampleField,
    ) -> None:
        self.problem, self.integrator, self.sensitivity = problem, integrator, sensitivity
        self.events, self.field = tuple(events), field
        self.stats: SolveStats = field.counted.stats
        batch = len(problem.x0)
        self.found = [Found(np.zeros(batch, dtype=int)) for _ in events]
        self.field_wants = field_wants_a_gradient(problem)
        # Where each sample is: its time, and its state.
        self.t, self.x = np.full(batch, problem.span[0]), problem.x0

    def run(self, halts: Sequence[Sequence[Halt]], times: int) -> Tensor:
        """Return the saved states, ``(times, batch, *event)``; ``found`` then has the events.

        Args:
            halts: Those of each sample, in their order.
            times: How many times are saved.
        """
        batch = len(self.problem.x0)
        saved: list[list[Tensor | None]] = [[None] * batch for _ in range(times)]
        for rank in zip_longest(*halts):
            here = {i: halt for i, halt in enumerate(rank) if halt is not None}
            samples, stops = np.array(list(here)), list(here.values())
            at_halt = self._halt(samples, stops)
            for i, halt, x in zip(here, stops, at_halt.unbind(), strict=True):
                left = [row for row in range(times) if saved[row][i] is None] if halt.ends else []
                for row in left if halt.row is None else [halt.row]:
                    saved[row][i] = x
        return torch.stack([torch.stack(_all(row)) for row in saved])

    def _halt(self, samples: np.ndarray, stops: Sequence[Halt]) -> Tensor:
        """Take samples to their next halt; return the states there, before any is changed."""
        t, place = np.array([halt.t for halt in stops]), rows(samples, self.x)
        x = self._leg(samples, self.x.index_select(0, place), t)
        x = _with_values(x, torch.stack([halt.x for halt in stops]))
        moments = {
            index: self._moment(index, samples, chosen, stops, t, x)
            for index in range(len(self.events))
            if len(chosen := _where(stops, lambda halt, index=index: index in halt.events))
        }
        at_halt = self._moved(x, moments)
        self.t[samples] = t
        self.x = self.x.index_copy(0, place, self._onwards(samples, x, at_halt, stops, moments))
        return at_halt

    def _leg(self, samples: np.ndarray, x: Tensor, t1: np.ndarray) -> Tensor:
        """Solve from where samples are to times of their own."""
        start = self.t[samples]
        length = t1 - start
        if not (x.requires_grad or self.field_wants) or not length.any():
            return x
        problem = ODEProblem(
            self._leg_field(samples, start, length),
            x,
            (0.0, 1.0),
            parameters=self.problem.known_tensors,
            error_mask=self.problem.error_mask,
        )
        stepping = _in_unit_time(self.integrator.stepping, float(np.abs(length).max()))
        integrator = replace(self.integrator, stepping=stepping, watch=SolveWatch())
        with self._counted_for(samples):
            return self.sensitivity.integrate(problem, integrator, [1.0], self.stats)[0]

    def _leg_field(self, samples: np.ndarray, start: np.ndarray, length: np.ndarray) -> LegField:
        there, separated = self.field.of(samples), getattr(self.problem.field, "separated", None)
        if separated is None:
            return LegField(there, start, length)
        return SeparatedLegField(there, start, length, separated)

    @contextmanager
    def _counted_for(self, samples: np.ndarray) -> Iterator[None]:
        """Count evaluations for these samples, and no steps: the first solve has made them."""
        stats = self.stats
        each, before = stats.nfe_per_sample, stats.nfe
        stats.nfe_per_sample = None
        try:
            with stats.steps_known():
                yield
        finally:
            stats.nfe_per_sample = each
            if each is not None:
                each[torch.from_numpy(samples)] += stats.nfe - before

    def _moment(
        self,
        index: int,
        samples: np.ndarray,
        chosen: np.ndarray,
        stops: Sequence[Halt],
        t: np.ndarray,
        x: Tensor,
    ) -> tuple[np.ndarray, Moment]:
        """An event of the chosen ones of some samples, noted."""
        own, times = samples[chosen], t[chosen]
        there = x.index_select(0, rows(chosen, x))
        known = [stops[i].slope for i in chosen]

        def slope() -> Tensor:
            if all(own is not None for own in known):
                return torch.stack(known)
            at = self.field(own, times, there)
            pairs = zip(known, at.unbind(), strict=True)
            return torch.stack([by_field if own is None else own for own, by_field in pairs])

        moment = moment_of(self.events[index], times_like(times, x), there, slope)
        self.found[index].note(own, moment)
        return chosen, moment

    def _moved(self, x: Tensor, moments: dict[int, tuple[np.ndarray, Moment]]) -> Tensor:
        """The states at halts, those that an event interrupts at a time that moves."""
        for index, (chosen, moment) in reversed(moments.items()):
            if self.events[index].interrupts:
                x = x.index_copy(0, rows(chosen, x), moment.x)
        return x

    def _onwards(
        self,
        samples: np.ndarray,
        x: Tensor,
        at_halt: Tensor,
        stops: Sequence[Halt],
        moments: dict[int, tuple[np.ndarray, Moment]],
    ) -> Tensor:
        """The states that samples go on from, at the times of their halts, which do not move."""
        changed = np.array([halt.onwards is not None for halt in stops])
        if not changed.any():
            return x
        onwards, delay = at_halt, at_halt.new_zeros(len(at_halt))
        for index, (chosen, moment) in moments.items():
            within = np.flatnonzero(changed[chosen])
            if self.events[index].apply and len(within):
                place, here = rows(chosen[within], x), rows(within, x)
                t, before = moment.t.index_select(0, here), onwards.index_select(0, place)
                onwards = onwards.index_copy(0, place, self.events[index].applied(t, before))
                delay = delay.index_copy(0, place, moment.delay.index_select(0, here))
        positions = np.flatnonzero(changed)
        place = rows(positions, x)
        after = onwards.index_select(0, place)
        with torch.no_grad():
            slope = self.field(samples[positions], self.t[samples[positions]], after)
        after = gone_on(after, slope, delay.index_select(0, place))
        values = torch.stack([halt.onwards for halt in stops if halt.onwards is not None])
        check(is_same(after.detach(), values), lambda: ValueError(_ANOTHER_APPLY))
        return x.index_copy(0, place, _with_values(after, values))


def _in_unit_time(stepping: Stepping, length: float) -> Stepping:
    """A stepping of a span of this length for a time from 0 to 1."""
    if isinstance(stepping, FixedStep):
        return replace(stepping, dt=min(1.0, stepping.dt / length))
    assert isinstance(stepping, AdaptiveStep)  # there are no others
    first = None if stepping.first_step is None else min(1.0, stepping.first_step / length)
    # Each sample meets the tolerance by itself, as in the first solve.
    return replace(stepping, first_step=first, norm="max", per_sample=False)


def _with_values(x: Tensor, values: Tensor) -> Tensor:
    """These values, with the gradient of ``x``."""
    return values.detach() + (x - x.detach())


def _where(stops: Sequence[Halt], wanted: Callable[[Halt], bool]) -> np.ndarray:
    return np.flatnonzero([wanted(halt) for halt in stops])


def _all(row: Sequence[Tensor | None]) -> list[Tensor]:
    present = [x for x in row if x is not None]
    assert len(present) == len(row)  # every saved time is a halt, or lies behind an end
    return present
