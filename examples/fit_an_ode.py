"""Fits the parameters of an ODE, and compares the four ways to differentiate the solve."""

import torch
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    InterpolatingAdjoint,
    ODEProblem,
    Solver,
    Tsit5,
    solve,
)


class LotkaVolterra(nn.Module):
    """Prey and predators: dx/dt = αx − βxy, dy/dt = δxy − γy."""

    def __init__(self, rates: tuple[float, float, float, float]) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.tensor(rates, dtype=torch.float64))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:  # it does not vary in time
        """Evaluate the field at states (batch, 2)."""
        alpha, beta, gamma, delta = self.rates
        prey, predators = x.unbind(1)
        eaten = prey * predators
        return torch.stack([alpha * prey - beta * eaten, delta * eaten - gamma * predators], dim=1)


start = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
times = [1.0, 2.0, 3.0, 4.0, 5.0]
tight = AdaptiveStep(rtol=1e-9, atol=1e-9)

with torch.no_grad():
    truth = ODEProblem(LotkaVolterra((1.5, 1.0, 3.0, 1.0)), start, (0.0, 5.0))
    observed = solve(truth, Solver(Tsit5(), tight), save_at=times).x

model = LotkaVolterra((1.2, 0.8, 2.5, 0.9))
problem = ODEProblem(model, start, (0.0, 5.0))
for sensitivity in (
    DiscreteAdjoint(),
    CheckpointedAdjoint(),
    BacksolveAdjoint(),
    InterpolatingAdjoint(),
):
    solution = solve(problem, Solver(Tsit5(), tight, sensitivity), save_at=times)
    loss = (solution.x - observed).square().mean()
    (gradient,) = torch.autograd.grad(loss, [model.rates])
    print(f"{sensitivity}: {gradient.tolist()}")
    print(f"  {solution.stats}")

optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=30)


def closure() -> Tensor:
    """Return the misfit, with its gradient."""
    optimizer.zero_grad()
    misfit = (solve(problem, save_at=times).x - observed).square().mean()
    misfit.backward()
    return misfit


optimizer.step(closure)
print("fitted:", [round(rate, 3) for rate in model.rates.tolist()])
