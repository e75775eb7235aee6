"""Differentiating steps that every sample takes by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.gradient_watch import GradientWatch
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.reader import SampleReader
from rnode_dyn.numerics.stepping.by_sample.step import SampleStep, Watcher
from rnode_dyn.numerics.stepping.integrator import Integrator


def discrete_by_sample(
    problem: ODEProblem,
    integrator: Integrator,
    times: Sequence[float],
    field: SampleField,
    watcher: Watcher | None = None,
) -> Tensor:
    """Return the states at ``times``; autograd records the steps, and is watched on its way back.

    Args:
        problem: What to solve.
        integrator: How.
        times: When the state is wanted.
        field: Its field.
        watcher: What may cut steps short.
    """
    watch = GradientWatch(field.counted.stats, problem.x0.device.type)
    x0, t0 = watch.start(problem.x0, problem.span[0]), problem.span[0]
    reader = SampleReader(integrator.algorithm, times, field.batch)
    steps = integrator.sample_steps(replace(problem, x0=x0), field, watcher)
    return reader.all(x0, t0, _watched(steps, watch, field.batch))


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
