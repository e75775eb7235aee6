"""Steps that autograd does not see through."""

import torch

from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.stepping.integrator import Integrator


def gradient_is_wanted(problem: ODEProblem) -> bool:
    """Whether anybody may ask for the gradient of a solve."""
    return torch.is_grad_enabled() and problem.needs_gradient


def refuse_opaque_steps(problem: ODEProblem, integrator: Integrator) -> None:
    """Raise where a gradient is wanted and autograd does not see through the steps."""
    if gradient_is_wanted(problem) and not integrator.algorithm.backpropagates:
        raise ValueError(
            f"autograd does not see through the steps of {integrator.algorithm.name}, so that this "
            "sensitivity would return wrong gradients: take BacksolveAdjoint(), or solve under "
            "torch.no_grad()."
        )
