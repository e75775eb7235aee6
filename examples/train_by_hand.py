"""Trains a regularized flow on two moons with a plain PyTorch loop."""

import torch
from torch import Tensor
from torch.optim import Adam

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Dopri5,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    JacobianFrobenius,
    KineticEnergy,
    MLPField,
    RegularizedFlow,
    Solver,
    best_threads,
    load_data,
)

torch.manual_seed(0)
data = load_data("moons", seed=0)
train, held_out = data.train.head(10_000), data.test.head(1000)

flow = RegularizedFlow(
    MLPField(2, hidden=(32, 32)),
    solver=Solver(RK4(), FixedStep(0.5)),
    divergence=ExactDivergence(),
    regularizers=[KineticEnergy(0.01), JacobianFrobenius(0.01)],
    eval_solver=Solver(Dopri5(), AdaptiveStep(1e-5, 1e-5)),
)
distribution = FlowDistribution(flow, event_shape=(2,))
optimizer = Adam(flow.parameters(), lr=1e-2)


def nats_and_gradient() -> Tensor:
    """Return −log p of a random batch, with the gradient of the regularized loss."""
    z, log_det, penalties = flow(train[torch.randint(len(train), (128,))])
    log_prob = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + log_det
    optimizer.zero_grad()
    (-log_prob.mean() + flow.weigh(penalties).mean()).backward()
    return -log_prob.detach().mean()


with best_threads(nats_and_gradient):  # one or all, the faster
    for step in range(150):
        nats = nats_and_gradient()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: {nats:.3f} nats, {flow.stats.nfe} evaluations")

flow.eval()
with torch.no_grad():
    print(f"held out: {-distribution.log_prob(held_out).mean():.3f} nats")
print(distribution.sample((3,)))
