"""One forward solve, from its first step to its solution, or to where it was stopped."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.reading import KeptSteps, Reader, Reading, SolvedAgain
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.discrete import DiscreteAdjoint
from rnode_dyn.numerics.sensitivity.time_gradient import saved_at, start_at
from rnode_dyn.numerics.solution import Solution
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.integrator import Integrator
from rnode_dyn.numerics.stepping.progress import SolveProgress
from rnode_dyn.numerics.stepping.watch import SolveWatch

Listener = Callable[[Step], object]


class ForwardSolve:
    """One forward solve.

    Args:
        problem: What to solve.
        integrator: How to step, and how far.
        sensitivity: How to differentiate.
        given: The times to save the state at, as they were given.
        times: As floats.
        whole: How a state becomes what it was before it was packed.
    """

    def __init__(
        self,
        problem: ODEProblem,
        integrator: Integrator,
        sensitivity: Sensitivity,
        given: Sequence[Any],
        times: Sequence[float],
        whole: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.problem, self.integrator, self.sensitivity = problem, integrator, sensitivity
        self.given, self.times = list(given), list(times)
        self.whole, self.stats = whole, SolveStats()

    def run(self, listener: Listener | None, progress: bool, keeps_steps: bool) -> Solution:
        """Solve, and return the solution.

        Args:
            listener: What is called with each accepted step.
            progress: Whether to show how far the solve has come.
            keeps_steps: Whether to keep the steps, where they are cheap.
        """
        bar = SolveProgress(self.problem.span, self.stats) if progress else None
        heard = None if listener is None else self._whole_steps(listener)
        listeners = [each for each in (heard, bar) if each is not None]
        keeps_steps = keeps_steps and self._steps_are_cheap()
        watch = SolveWatch(self.integrator.algorithm if keeps_steps else None, listeners)
        started = self.problem.restarted(start_at(self.problem, self.stats))
        try:
            with bar or nullcontext():
                x = self._integrate(started, watch)
        except torch.OutOfMemoryError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            # Of any error, not of ours alone.
            setattr(error, "solution", self._so_far(started, watch, error))  # noqa: B010
            raise
        reading = self._reading(started, watch.steps, x)
        watch.forget()
        x = saved_at(self.problem, x, self.given, self.stats)
        return self._solution(self._told(), x, reading)

    def _whole_steps(self, listener: Listener) -> Listener:
        """What is told of a step, of one that is as it was before it was packed."""
        unpack = self.whole
        if unpack is None:
            return listener

        def listen(step: Step) -> None:
            whole = copy.copy(step)
            whole.x0, whole.x1 = unpack(step.x0), unpack(step.x1)
            whole.slopes = tuple(unpack(slope) for slope in step.slopes)
            whole.error = None if step.error is None else unpack(step.error)
            whole.end_slope = None if step.end_slope is None else unpack(step.end_slope)
            listener(whole)

        return listen

    def _integrate(self, started: ODEProblem, watch: SolveWatch) -> Tensor:
        integrator = replace(self.integrator, watch=watch)
        return self.sensitivity.integrate(started, integrator, self.times, self.stats)

    def _steps_are_cheap(self) -> bool:
        """Whether steps take little memory beside a graph of them, or nothing else is kept.

        Adjoints that keep no graph are taken for the sake of memory.
        """
        return isinstance(self.sensitivity, DiscreteAdjoint) or not torch.is_grad_enabled()

    def _reading(self, started: ODEProblem, steps: Sequence[Step], x: Tensor) -> Reading:
        if steps:
            return KeptSteps(started, self.integrator.algorithm, steps, self.stats)
        return SolvedAgain(
            self.problem, self.integrator, self.sensitivity, self.times, x, self.stats
        )

    def _solution(self, t: Tensor, x: Tensor, reading: Reading | None) -> Solution:
        reader = None if reading is None else Reader(self.problem, reading, self.stats)
        whole = x if self.whole is None else self.whole(x)
        return Solution(t, whole, self.stats, reader, self.whole)

    @torch.no_grad()
    def _so_far(self, started: ODEProblem, watch: SolveWatch, error: BaseException) -> Solution:
        """Return the solution up to its last sound state, without a graph."""
        until = error.t if isinstance(error, SolverError) else watch.end(self.problem.span[0])
        steps = [_without_graph(step) for step in watch.until(until, self.problem.direction)]
        rows = watch.rows(self.times, until, self.problem.direction)
        t, x = [t for t, _ in rows], [state.detach() for _, state in rows]
        if not rows:
            t, x = [self.problem.span[0]], [started.x0.detach()]
        reading = self._reading(started, steps, x[0]) if steps else None
        return self._solution(self._tensor(t), torch.stack(x), reading)

    def _tensor(self, times: Sequence[float]) -> Tensor:
        like = self.problem.x0
        # By a copy that waits for nothing: one that is made on a GPU waits for all before it.
        return torch.tensor(times, dtype=like.dtype).to(like.device, non_blocking=True)

    def _told(self) -> Tensor:
        """The times as one tensor, through which those that want a gradient are reached."""
        if not any(map(wants_gradient, self.given)):
            return self._tensor(self.times)
        like = self.problem.x0
        pairs = zip(self.given, self.times, strict=True)
        told = [g if wants_gradient(g) else like.new_tensor(t) for g, t in pairs]
        return torch.stack([t.to(like) for t in told])


def _without_graph(step: Step) -> Step:
    end = None if step.end_slope is None else step.end_slope.detach()
    slopes = tuple(slope.detach() for slope in step.slopes)
    x0, x1 = step.x0.detach(), step.x1.detach()
    return replace(step, x0=x0, x1=x1, slopes=slopes, end_slope=end, error=None)
