"""Hooks of tensors see a whole gradient once, whatever the sensitivity."""

import pytest
import torch
from torch import Tensor

from rnode_dyn import DiscreteAdjoint, Dopri5, FixedStep, ODEProblem, Sensitivity, Solver, solve
from tests.numerics.cases import SENSITIVITIES, small_start


def hooked(sensitivity: Sensitivity) -> tuple[list[Tensor], list[Tensor]]:
    """What the hooks saw, and the gradients that came out."""
    seen: list[Tensor] = []
    rate = torch.tensor([0.5, -1.5], dtype=torch.float64, requires_grad=True)
    context = rate.exp()
    context.retain_grad()
    for tensor in (rate, context):
        tensor.register_hook(lambda grad: seen.append(grad) or grad.clamp(-0.2, 0.2))
    problem = ODEProblem(lambda t, x: -rate * x + context * torch.sin(t), small_start(), (0.0, 1.0))
    solution = solve(problem, Solver(Dopri5(), FixedStep(0.1), sensitivity), save_at=[0.5, 1.0])
    solution.x.sum().backward()
    assert rate.grad is not None
    assert context.grad is not None
    return seen, [rate.grad, context.grad]


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=repr)
def test_once(sensitivity: Sensitivity) -> None:
    seen, gradients = hooked(sensitivity)
    seen_rightly, right = hooked(DiscreteAdjoint())
    assert len(seen) == len(seen_rightly) == 2
    torch.testing.assert_close(seen, seen_rightly, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradients, right, rtol=1e-5, atol=1e-7)
