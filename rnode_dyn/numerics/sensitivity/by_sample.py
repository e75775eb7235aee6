"""Differentiating steps that every sample takes by itself."""

from collections.abc import Sequence

from torch import Tensor

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.step_watch import StepWatch
from rnode_dyn.numerics.stats import CountedField
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.by_sample.reader import SampleReader
from rnode_dyn.numerics.stepping.integrator import Integrator


def discrete_by_sample(
    problem: ODEProblem,
    integrator: Integrator,
    times: Sequence[float],
    counted: CountedField,
    watch: StepWatch,
) -> Tensor:
    """Return the states at ``times``; autograd records the steps, and ``watch`` its way back."""
    batch = len(problem.x0)
    reader = SampleReader(integrator.algorithm, times, batch)
    steps = integrator.sample_steps(problem, SampleField(counted, batch))
    return reader.all(problem.x0, problem.span[0], watch.over_samples(steps, problem.x0))
