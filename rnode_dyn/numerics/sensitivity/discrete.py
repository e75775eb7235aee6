"""Backpropagation through the steps, its gradients looked at on their way back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.by_sample import discrete_by_sample
from rnode_dyn.numerics.sensitivity.gradient_watch import GradientWatch
from rnode_dyn.numerics.sensitivity.opaque import refuse_opaque_steps
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.dense import StateReader
from rnode_dyn.numerics.stepping.integrator import Integrator


@dataclass(frozen=True)
class DiscreteAdjoint(Sensitivity):
    """Backpropagation through the steps: the exact gradient of what was computed.

    Memory grows with the number of evaluations: every intermediate result of the field is kept.
    """

    def check_by_sample(self) -> None:
        """Each sample may step by itself: autograd records what it does."""

    def integrate(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> Tensor:
        """Return the states at ``times``; autograd records the steps.

        Raises:
            ValueError: if autograd would not see through the algorithm's steps.
        """
        refuse_opaque_steps(problem, integrator)
        rhs = CountedField(problem, stats)
        if integrator.per_sample:
            field = SampleField(rhs, len(problem.x0))
            return discrete_by_sample(problem, integrator, times, field)
        watch = GradientWatch(stats, problem.x0.device.type)
        watched = replace(problem, x0=watch.start(problem.x0, problem.span[0]))
        reader = StateReader(integrator.algorithm, rhs, times)
        steps = _watch_steps(integrator.steps(watched, rhs, stats), watch)
        return torch.stack(reader.all(watched.x0, problem.span[0], steps))


def _watch_steps(steps: Iterator[Step], watch: GradientWatch) -> Iterator[Step]:
    """Pass the steps on; look at the gradients of their ends on the way back."""
    last_to_come = True  # the first step's is, but for that of the start, if it is asked for
    for step in steps:
        if step.x1.requires_grad:
            step.x1.register_hook(_note(watch, step.t1, -step.dt, last_to_come))
            last_to_come = False
        yield step


def _note(
    watch: GradientWatch, t: float, dt: float, conclude: bool
) -> Callable[[Tensor | None], None]:
    def note(grad: Tensor | None) -> None:
        watch.note(grad, t, dt)
        if conclude:
            watch.conclude()

    return note
