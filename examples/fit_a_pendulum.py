"""Fits a damped pendulum from one noisy trajectory, with the penalty of the layer in the loss."""

import torch
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    MLPField,
    ODEProblem,
    RegularizedODE,
    Solver,
    TotalDerivative,
    Tsit5,
    penalty,
    solve,
)


def pendulum(t: Tensor, x: Tensor) -> Tensor:  # it does not vary in time
    """A pendulum that loses its speed slowly."""
    angle, speed = x.unbind(1)
    return torch.stack([speed, -torch.sin(angle) - 0.2 * speed], dim=1)


torch.manual_seed(0)
solver = Solver(Tsit5(), AdaptiveStep(1e-3, 1e-3))
start, times = torch.tensor([[1.5, 0.0]]), torch.linspace(0.2, 4.0, 20)
truth = solve(ODEProblem(pendulum, start, (0.0, 4.0)), save_at=times).x
observed = truth + 0.05 * torch.randn_like(truth)

layer = RegularizedODE(
    MLPField(2, hidden=(32,), activation="tanh"),
    solver,
    [TotalDerivative(1e-4)],
    end_time=4.0,
    return_trajectory=True,
    save_at=times,
)
optimizer = torch.optim.Adam(layer.parameters(), 0.03)
for step in range(101):
    misfit = (layer(start) - observed).square().mean()
    loss = misfit + penalty(layer)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: misfit {misfit.item():.4f}, {layer.stats.nfe} evaluations")

with torch.no_grad():
    error = (layer(start) - truth).square().mean().sqrt()
print(f"root mean square error {error.item():.3f}, of noise 0.05")
