"""Samples from an unnormalised density, of which nothing is known but its formula.

A flow is trained, while a temperature falls, until what it draws has the density, a ring that is
heavier in places; then it weighs its samples, which gives the density's integral.
"""

import math

import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    ExactDivergence,
    FixedStep,
    KineticEnergy,
    MLPField,
    RegularizedFlow,
    Solver,
    Tempered,
    importance,
)

STEPS, SAMPLES = 100, 128  # benchmarks/energies.py takes 1500 and 256


def log_density(x: Tensor) -> Tensor:
    """Return sin(πx₁) − 2(‖x‖² − 2)²: a ring of radius √2, up to a constant."""
    return torch.sin(torch.pi * x[:, 0]) - 2 * (x.square().sum(1) - 2).square()


torch.manual_seed(0)
flow = RegularizedFlow(
    MLPField(2, hidden=(64, 64), activation="tanh"),
    Solver(RK4(), FixedStep(0.25)),
    ExactDivergence(),
    regularizers=[KineticEnergy(0.01)],
    eval_solver=Solver(RK4(), FixedStep(0.05)),
)
optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
tempered = Tempered(log_density, hottest=10.0, steps=STEPS // 2)
for step in range(STEPS):
    optimizer.zero_grad()
    loss = tempered.at(step).loss(flow, SAMPLES).value
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 20 == 0:
        print(f"step {step}: {loss.item():.3f} at temperature {tempered.temperature(step):.2f}")

flow.eval()
found = importance(flow, log_density, 2000)
print(f"log Z {found.log_z:.3f} ± {found.log_z_stderr:.3f}, effective samples {found.ess:.1%}")
print(f"one of them: {[round(v, 2) for v in found.samples[0].tolist()]}, of radius", end=" ")
print(round(math.sqrt(found.samples[0].square().sum()), 2))
