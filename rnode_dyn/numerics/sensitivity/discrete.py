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
        watch = GradientWatch(stats, problem.x0.device.type)
        watched = replace(problem, x0=_watch_start(problem, integrator, watch))
        rhs = CountedField(problem, stats)
        if integrator.per_sample:
            return discrete_by_sample(watched, integrator, times, rhs, watch)
        reader = integrator.reader(rhs, times)
        steps = _watch_steps(integrator.steps(watched, rhs, stats), watch)
        return torch.stack(reader.all(watched.x0, problem.span[0], steps))


def _watch_start(problem: ODEProblem, integrator: Integrator, watch: GradientWatch) -> Tensor:
    """Return the start as a tensor of its own whose gradient, the last to come, is looked at."""
    refuse_opaque_steps(problem, integrator)
    if not (torch.is_grad_enabled() and problem.x0.requires_grad):
        return problem.x0
    x0 = problem.x0.view_as(problem.x0)

    def check(grad: Tensor | None) -> None:
        watch.note(grad, problem.span[0], 0.0)
        watch.conclude()

    x0.register_hook(check)
    return x0


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
