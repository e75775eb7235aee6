"""Differentiating steps that every sample takes by itself."""

from collections.abc import Iterator, Sequence
from functools import partial

from torch import Tensor

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.gradient_watch import GradientWatch
from rnode_dyn.numerics.stats import CountedField
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.reader import SampleReader
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep
from rnode_dyn.numerics.stepping.integrator import Integrator


def discrete_by_sample(
    problem: ODEProblem,
    integrator: Integrator,
    times: Sequence[float],
    counted: CountedField,
    watch: GradientWatch,
) -> Tensor:
    """Return the states at ``times``; autograd records the steps, and ``watch`` its way back."""
    batch = len(problem.x0)
    reader = SampleReader(integrator.algorithm, times, batch)
    steps = integrator.sample_steps(problem, SampleField(counted, batch))
    return reader.all(problem.x0, problem.span[0], _watched(steps, watch, batch))


def _watched(steps: Iterator[SampleStep], watch: GradientWatch, batch: int) -> Iterator[SampleStep]:
    """Pass the steps on; look at the gradients of their ends on the way back."""
    last_to_come = True
    for step in steps:
        if step.x1.requires_grad:
            step.x1.register_hook(partial(watch.note_samples, stretch=step.stretch, batch=batch))
            if last_to_come:
                step.x1.register_hook(lambda grad: watch.conclude())
            last_to_come = False
        yield step
