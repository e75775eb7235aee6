"""bfloat16 autocast, forward and backward."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    ConvField,
    Dopri5,
    FixedStep,
    HutchinsonDivergence,
    MLPField,
    RegularizedFlow,
    Solver,
)
from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.stepping.base import Stepping
from tests.flows.cases import REGULARIZERS, SENSITIVITIES, flat, loss, name_of, randomize

FIELDS = {
    "mlp": (lambda: MLPField((1, 4, 4), (8,)), (1, 4, 4)),
    "conv": (lambda: ConvField(1, (8,)), (1, 4, 4)),
    "linear": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)), (1, 4, 4)),
}


@pytest.fixture(autouse=True)
def _single_precision() -> None:
    torch.set_default_dtype(torch.float32)


def gradient(flow: RegularizedFlow, x: Tensor, enabled: bool, inside: bool) -> Tensor:
    """Return the loss's gradient, the backward pass inside the autocast region or after it."""
    flow.zero_grad()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        result = flow(x)
        assert result.z.dtype == result.log_det.dtype == torch.float32
        value = loss(result)
        if inside:
            value.backward()
    if not inside:
        value.backward()
    assert all(p.grad is not None for p in flow.parameters())
    return flat([p.grad for p in flow.parameters()])  # type: ignore[misc]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("inside", [False, True], ids=["after", "inside"])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
@pytest.mark.parametrize("kind", FIELDS)
def test_gradient_is_that_of_single_precision_but_for_rounding(
    kind: str, sensitivity: Sensitivity, inside: bool
) -> None:
    make, event = FIELDS[kind]
    torch.manual_seed(0)
    solver = Solver(RK4(), FixedStep(0.5), sensitivity)
    flow = RegularizedFlow(randomize(make(), 0.2), solver, regularizers=REGULARIZERS)
    x = torch.randn(4, *event)
    reduced, full = gradient(flow, x, True, inside), gradient(flow, x, False, inside)
    assert not torch.equal(reduced, full)
    assert torch.cosine_similarity(reduced, full, dim=0) > 0.99


@pytest.mark.parametrize(
    ("algorithm", "stepping"),
    [(RK4(), FixedStep(0.5)), (Dopri5(), AdaptiveStep(1e-2, 1e-2))],
    ids=["fixed", "adaptive"],
)
def test_checkpointed_adjoint_trains_under_autocast(
    algorithm: Algorithm, stepping: Stepping
) -> None:
    torch.manual_seed(0)
    solver = Solver(algorithm, stepping, CheckpointedAdjoint())
    flow = RegularizedFlow(ConvField(1, (8,)), solver, HutchinsonDivergence())
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.05)
    x = 3 * torch.randn(16, 1, 4, 4)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            z, log_det, _ = flow(x)
            value = (0.5 * z.flatten(1).square().sum(1) - log_det).mean()
        value.backward()
        optimizer.step()
        return float(value.detach())

    losses = [step() for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]
