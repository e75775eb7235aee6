"""The state at any time of a solve that is done: read off its steps, or solved for once more."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.asked_times import AskedTimes
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.time_gradient import moved, start_at
from rnode_dyn.numerics.slope import check_slope, is_same
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepping.dense import DenseSolution
from rnode_dyn.numerics.stepping.integrator import Integrator
from rnode_dyn.numerics.stepping.watch import SolveWatch
from rnode_dyn.numerics.transforms import is_batched


class Reading(Protocol):
    """How states are read.

    Attributes:
        span: From where to where.
    """

    span: tuple[float, float]

    def states(self, times: Sequence[float]) -> Sequence[Tensor]:
        """Return the states at times that run along the solve, each once."""
        ...

    def check_field(self) -> None:
        """Raise where the field is not the one that was solved any more."""
        ...


class KeptSteps:
    """Reads states off the steps of the solve, by the algorithm's own interpolant.

    What the interpolant has to evaluate is evaluated when it is asked for; the field must then be
    what it was.

    Args:
        problem: What was solved.
        algorithm: Whose steps they are.
        steps: The steps.
        stats: Where evaluations are counted.
    """

    def __init__(
        self, problem: ODEProblem, algorithm: Any, steps: Sequence[Step], stats: SolveStats
    ) -> None:
        self.field = _SameField(CountedField(problem, stats), steps[0])
        self.span = (steps[0].t, steps[-1].t1)
        self.dense = DenseSolution(algorithm, self.field, steps)

    def states(self, times: Sequence[float]) -> Sequence[Tensor]:
        """Return the states; the field is looked at once, if it is needed."""
        self.field.is_checked = False
        return [self.dense(t) for t in times]

    def check_field(self) -> None:
        """Raise where the field comes out otherwise at the start of the solve."""
        self.field.check()


class _SameField:
    """A field that is looked at before it is evaluated: it must be the one that was solved.

    It knows nothing of who reads: in a circle, all steps would stay until they are collected.
    """

    def __init__(self, field: CountedField, first: Step) -> None:
        self.field, self.first = field, first
        self.is_checked = False

    def check(self) -> None:
        self.is_checked = True
        with torch.no_grad():
            again = self.field(self.first.t, self.first.x0)
        _refuse_unless(is_same(again, self.first.slopes[0]))

    def __call__(self, t: float, x: Tensor) -> Tensor:
        if not self.is_checked:
            self.check()
        return self.field(t, x)


class SolvedAgain:
    """Solves once more and saves the states, differentiable by the sensitivity's own means.

    Args:
        problem: What was solved.
        integrator: How.
        sensitivity: How it is differentiated.
        saved: The times of the saved states.
        x: The saved states, which must come out again.
        stats: Where evaluations are counted.
    """

    def __init__(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        sensitivity: Sensitivity,
        saved: Sequence[float],
        x: Tensor,
        stats: SolveStats,
    ) -> None:
        self.problem, self.integrator, self.sensitivity = problem, integrator, sensitivity
        self.saved, self.x, self.stats = saved, x.detach(), stats
        self.span = problem.span

    def states(self, times: Sequence[float]) -> Sequence[Tensor]:
        """Return the states."""
        wanted = sorted({*times, *self.saved}, reverse=self.problem.direction < 0)
        watch = SolveWatch()
        integrator = replace(self.integrator, watch=watch)
        with self.stats.steps_known():
            started = self.problem.restarted(start_at(self.problem, self.stats))
            x = self.sensitivity.integrate(started, integrator, wanted, self.stats)
        watch.forget()
        rows = {t: row for row, t in enumerate(wanted)}
        _refuse_unless(is_same(x.detach()[[rows[t] for t in self.saved]], self.x))
        return [x[rows[t]] for t in times]

    def check_field(self) -> None:
        """The states have just come out again."""


def _refuse_unless(same: Tensor) -> None:
    # Within vmap nothing can be read.
    if not is_batched(same) and not bool(same):
        raise RuntimeError(
            "the solution is asked for between its saved states, and the field is not the one that "
            "was solved any more: at the same time and state it comes out different, so that it "
            "draws random numbers, or something that it uses was changed since; read the solution "
            "before the change, or save the states, solve(…, save_at=[…])."
        )


class Reader:
    """Answers what a solution is asked for.

    Args:
        problem: What was solved.
        reading: How states are read.
        stats: Where evaluations are counted.
    """

    def __init__(self, problem: ODEProblem, reading: Reading, stats: SolveStats) -> None:
        self.problem, self.reading, self.stats = problem, reading, stats
        self.span = reading.span
        # What was solved without a graph has none to be differentiated through.
        self.records = torch.is_grad_enabled()

    def states(self, asked: AskedTimes, per_sample: bool) -> Tensor:
        """Return the states at the times asked for."""
        evaluates = any(map(wants_gradient, asked.given))
        return self._each(asked, per_sample, self._state, evaluates)

    def slopes(self, asked: AskedTimes, per_sample: bool) -> Tensor:
        """Return the field at the times asked for, and at the states there."""
        return self._each(asked, per_sample, self._slope, evaluates=True)

    def _each(
        self,
        asked: AskedTimes,
        per_sample: bool,
        at: Callable[[Any, float, Tensor], Tensor],
        evaluates: bool,
    ) -> Tensor:
        rows: list[Any] = [None] * len(asked.given)
        # As it was solved, whoever reads: what dense output evaluates is kept for the next reader.
        with torch.inference_mode(False), torch.set_grad_enabled(self.records):
            states = self.reading.states(asked.distinct)
            if evaluates:
                self.reading.check_field()
            for t, places, state in zip(asked.distinct, asked.places, states, strict=True):
                for i in places:
                    row = at(asked.given[i], t, state)
                    rows[i] = row[i] if per_sample else row
            read = rows[0] if asked.is_single else torch.stack(rows)
        return read if torch.is_grad_enabled() else read.detach()

    def _state(self, given: Any, t: float, x: Tensor) -> Tensor:
        return moved(self.problem, x, given, 1.0, self.stats)

    def _slope(self, given: Any, t: float, x: Tensor) -> Tensor:
        state = self._state(given, t, x)
        time = given.to(x) if wants_gradient(given) else x.new_tensor(t)
        self.stats.nfe += 1
        slope = self.problem.called(time, state)
        check_slope(slope, state)
        return slope
