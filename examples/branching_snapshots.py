"""Fits one flow to four snapshots of a population that branches, and looks at a time between."""

import torch
from torch import Tensor

from rnode_dyn import FixedStep, MLPField, RegularizedFlow, Snapshots, Solver, Tsit5


def population(count: int, t: float) -> Tensor:
    """Draw points at a time: all move right, and half of them turn up, half down."""
    branch = torch.randint(0, 2, (count,)) * 2 - 1.0
    centre = torch.stack([torch.full((count,), 2 * t), 2 * branch * t**3], dim=1)
    return centre + 0.3 * torch.randn(count, 2)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, zero where both are drawn from the same density."""
    within = torch.pdist(x).mean() + torch.pdist(y).mean()
    return (2 * torch.cdist(x, y).mean() - within).item()


torch.manual_seed(0)
times = [0.0, 0.25, 0.75, 1.0]
snapshots = [population(500, t) for t in times]

flow = RegularizedFlow(MLPField(2, activation="silu"), Solver(Tsit5(), FixedStep(0.05)))
objective = Snapshots(times, pairs="minibatch-ot", paths="spline", batch=64)
optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
for _ in range(600):
    optimizer.zero_grad()
    objective.loss(flow, snapshots).value.backward()
    optimizer.step()
    schedule.step()

held_out = population(2000, 0.5)
with torch.no_grad():
    carried = flow.between(snapshots[1], 0.25, 0.5).z
at_random = (snapshots[1] + snapshots[2]) / 2
print(f"carried from 0.25 to 0.5: energy distance {energy_distance(carried, held_out):.4f}")
print(f"half-way in random pairs: energy distance {energy_distance(at_random, held_out):.4f}")
