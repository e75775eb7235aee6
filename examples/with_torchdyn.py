"""torchdyn's parts in rnode-dyn, and rnode-dyn's solvers in torchdyn."""

import torch
from torch import nn

from rnode_dyn import (
    AdaptiveStep,
    ExactDivergence,
    FixedStep,
    KineticEnergy,
    RegularizedFlow,
    Solver,
    Tsit5,
)

# After rnode_dyn, which lets torchvision be imported beside a CPU-only torch.
# isort: split
from torchdyn.core import NeuralODE
from torchdyn.nn import DepthCat
from torchdyn.numerics import Euler as TorchdynEuler

torch.manual_seed(0)
x = torch.randn(6, 2)

# A flow is a torchdyn NeuralODE.
flow = RegularizedFlow(nn.Linear(2, 2), divergence=ExactDivergence())
assert isinstance(flow, NeuralODE)

# DepthCat gives the time to a module that takes the state alone.
timed = nn.Sequential(DepthCat(1), nn.Linear(3, 16), nn.Tanh(), DepthCat(1), nn.Linear(17, 2))
flow = RegularizedFlow(timed, divergence=ExactDivergence(), regularizers=[KineticEnergy(0.01)])
z, log_det, penalties = flow(x)
print("with DepthCat:", z.shape, log_det.shape, list(penalties))

# torchdyn's solvers, by name or as objects, in a Solver.
by_name = RegularizedFlow(timed, solver=Solver("dopri5", AdaptiveStep(1e-4, 1e-4)))
by_object = RegularizedFlow(timed, solver=Solver(TorchdynEuler(), FixedStep(0.1)))
print("torchdyn's solvers:", by_name(x).z.shape, by_object(x).z.shape)

# A solver of rnode-dyn in a stock NeuralODE.
stock = NeuralODE(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)), solver=Tsit5())
times, trajectory = stock(x, torch.linspace(0, 1, 5))
print("in torchdyn:", trajectory.shape)
