"""Differentiating steps that every sample takes by itself."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.step_watch import StepWatch
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.reader import SampleReader
from rnode_dyn.numerics.stepping.by_sample.step import Maker, Watcher, make_step
from rnode_dyn.numerics.stepping.integrator import Integrator


def discrete_by_sample(
    problem: ODEProblem,
    integrator: Integrator,
    times: Sequence[float],
    field: SampleField,
    watcher: Watcher | None = None,
    make: Maker = make_step,
) -> Tensor:
    """Return the states at ``times``; autograd records the steps, and is watched on its way back.

    Args:
        problem: What to solve.
        integrator: How.
        times: When the state is wanted.
        field: Its field.
        watcher: What may cut steps short.
        make: What makes the steps.
    """
    watch = StepWatch(problem, field.counted.stats)
    x0 = watch.begin(problem.x0)
    reader = SampleReader(integrator.algorithm, times, field.batch)
    steps = integrator.sample_steps(replace(problem, x0=x0), field, watcher, make)
    return reader.all(x0, problem.span[0], watch.over_samples(steps, x0))
