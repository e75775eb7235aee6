"""Trains a regularized flow on two moons with a plain PyTorch loop."""

import torch
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

for step in range(150):
    x = train[torch.randint(len(train), (128,))]
    z, log_det, penalties = flow(x)
    log_prob = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + log_det
    loss = -log_prob.mean() + flow.weigh(penalties).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: {-log_prob.mean():.3f} nats, {flow.stats.nfe} evaluations")

flow.eval()
with torch.no_grad():
    print(f"held out: {-distribution.log_prob(held_out).mean():.3f} nats")
print(distribution.sample((3,)))
