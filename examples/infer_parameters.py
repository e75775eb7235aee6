"""Infers the parameters of a simulator: the posterior p(θ | x) as a conditional flow.

It also leaves simulations in ``data/two-moons``, where the recipe ``two-moons`` looks for them.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    FixedStep,
    FlowDistribution,
    FlowMatching,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
    Standardize,
)


def simulate(count: int) -> tuple[Tensor, Tensor]:
    """Draw θ from the prior, uniform on [−1, 1]², and data x given it: a crescent, moved."""
    theta = 2 * torch.rand(count, 2) - 1
    angle, radius = torch.pi * (torch.rand(count) - 0.5), 0.1 + 0.01 * torch.randn(count)
    moved = torch.stack([-theta.sum(1).abs(), theta[:, 1] - theta[:, 0]], dim=1) / 2**0.5
    return theta, moved + torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], dim=1)


torch.manual_seed(0)
folder = Path("data/two-moons")
folder.mkdir(parents=True, exist_ok=True)
np.save(folder / "data.npy", torch.cat(simulate(10_000), dim=1).numpy())

theta, x = simulate(2000)
field = MLPField(2, hidden=(64, 64), activation="silu", condition=2, embedding=32)
flow = MultiscaleFlow(
    (2,),
    [Scale([RegularizedFlow(field, Solver(RK4(), FixedStep(0.1)))])],
    preprocess=Standardize(theta.mean(0), theta.std(0)),
    preprocess_condition=Standardize(x.mean(0), x.std(0)),
)
optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)
for step in range(200):
    rows = torch.randint(len(theta), (256,))
    optimizer.zero_grad()
    loss = FlowMatching().loss(flow, theta[rows], condition=x[rows])
    loss.value.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: {loss.value:.3f}")

flow.eval()
posterior = FlowDistribution(flow, (2,)).given(torch.tensor([-0.64, 0.16]))
print(posterior.sample((5,)))  # on two crescents, which θ₁ + θ₂ ↦ −(θ₁ + θ₂) exchanges
