"""The error for a step whose equations could not be solved."""

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.errors import NewtonError
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stats import evaluations
from rnode_dyn.numerics.stepping.error_norm import worst_sample


def not_solved(step: Step, steps: int, rhs: RightHandSide) -> NewtonError:
    """Return the error that says why ``step`` has no end, and which sample is to blame.

    Args:
        step: The step; its ``failure`` says why.
        steps: Steps tried so far.
        rhs: The field, which knows its evaluations.
    """
    return NewtonError(
        step.failure or "an implicit step could not be solved",
        t=step.t,
        dt=step.dt,
        steps=steps,
        nfe=evaluations(rhs),
        worst_sample=int(worst_sample(step.x1)),
    )
