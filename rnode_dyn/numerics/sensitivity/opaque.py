"""Steps that autograd does not see through."""

import torch

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity.reach import Reach
from rnode_dyn.numerics.stepping.integrator import Integrator


def refuse_opaque_steps(problem: ODEProblem, integrator: Integrator) -> None:
    """Raise where a gradient is wanted and autograd does not see through the steps."""
    if not integrator.algorithm.backpropagates and wants_a_gradient(problem):
        raise ValueError(
            f"autograd does not see through the steps of {integrator.algorithm.name}, so that this "
            "sensitivity would return wrong gradients: take BacksolveAdjoint(), or solve under "
            "torch.no_grad()."
        )


def wants_a_gradient(problem: ODEProblem) -> bool:
    """Whether somebody may ask for a gradient of what a solve returns."""
    if not torch.is_grad_enabled():
        return False
    return problem.x0.requires_grad or field_wants_a_gradient(problem)


def field_wants_a_gradient(problem: ODEProblem) -> bool:
    """Whether the field uses tensors that want a gradient."""
    return bool(problem.differentiable) or _uses_more(problem)


def _uses_more(problem: ODEProblem) -> bool:
    """Whether the field uses tensors that nobody named and that want a gradient."""
    x0 = problem.x0.detach()
    with torch.no_grad(), Reach() as reach:
        problem.called(x0.new_tensor(problem.span[0]), x0)
    return bool(reach.wanting)
