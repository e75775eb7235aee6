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
    UNetField,
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


@pytest.mark.parametrize("weights", [0.05, 0.3])
def test_steps_of_a_unet_that_are_made_again_are_the_same_in_bfloat16(weights: float) -> None:
    """Torch differentiates silu and norms in other operations where that is differentiated."""
    torch.manual_seed(0)
    field = UNetField(1, width=8, levels=2)
    for parameter in field.parameters():
        nn.init.normal_(parameter, std=weights)
    solver = Solver(RK4(), FixedStep(0.25), CheckpointedAdjoint())
    flow = RegularizedFlow(field, solver, HutchinsonDivergence(), REGULARIZERS)
    gradient(flow, torch.randn(8, 1, 8, 8), enabled=True, inside=False)


class Counting(nn.Module):
    """A field that is another one at each evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 4), 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) + self.calls


def test_a_field_that_changes_is_found_in_bfloat16() -> None:
    solver = Solver(RK4(), FixedStep(0.25), CheckpointedAdjoint())
    flow = RegularizedFlow(Counting(), solver, HutchinsonDivergence(), [])
    with pytest.raises(RuntimeError, match="made again came out different"):
        gradient(flow, torch.randn(8, 4), enabled=True, inside=False)
