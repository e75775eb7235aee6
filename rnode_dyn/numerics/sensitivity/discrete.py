"""Backpropagation through the steps, its gradients looked at on their way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.by_sample import discrete_by_sample
from rnode_dyn.numerics.sensitivity.opaque import refuse_opaque_steps
from rnode_dyn.numerics.sensitivity.step_watch import StepWatch
from rnode_dyn.numerics.stats import CountedField, SolveStats
from rnode_dyn.numerics.stepping.by_sample.field import SampleField
from rnode_dyn.numerics.stepping.integrator import Integrator


@dataclass(frozen=True)
class DiscreteAdjoint(Sensitivity):
    """Backpropagation through the steps: the exact gradient of what was computed.

    Memory grows with the number of evaluations: every intermediate result of the field is kept.
    Gradients that are not finite are noticed on their way back: the state's at each step, and
    those of the leaves (parameters, say) that the field's first evaluation uses, as they arrive.
    """

    differentiates_steps: ClassVar[bool] = True

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
        watch = StepWatch(problem, stats)
        started = problem.restarted(watch.begin(problem.x0))
        reader = integrator.reader(rhs, times)
        steps = watch.over(integrator.steps(started, rhs, stats))
        return torch.stack(reader.all(started.x0, problem.span[0], steps))
