"""Gaussian data, whose straight paths have an optimal field that is known in closed form."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from rnode_dyn import MultiscaleFlow
from rnode_dyn.flows.straight_paths import Leg, legs


class OptimalField(nn.Module):
    """E[dx/dt | x(t)] over all straight paths from a ~ N(mean, covariance) to independent noise.

    With U the diagonal of what is done of the paths, x = (1 − U) a + U z, so that x and z − a are
    jointly Gaussian.
    """

    def __init__(self, leg: Leg, data: MultivariateNormal) -> None:
        super().__init__()
        seen = leg.coordinates.flatten()
        self.mean, self.covariance = data.mean[seen], data.covariance_matrix[seen][:, seen]
        self.number, self.end_time, self.exits = leg.number, leg.flow.end_time, leg.exits.flatten()
        self.pace = leg.pace

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and covariance of x, and the regression of z − a on it."""
        u = 1 - self.even(t) ** self.pace
        stays, goes = torch.diag(1 - u), torch.diag(u)
        spread = stays @ self.covariance @ stays + goes @ goes
        return (1 - u) * self.mean, spread, (goes - self.covariance @ stays) @ spread.inverse()

    def even(self, t: Tensor) -> Tensor:
        """What is left of the paths' time."""
        return 1 - (self.number + t / self.end_time) / self.exits

    def speed(self, t: Tensor) -> Tensor:
        """How fast the paths go, in units of their even speed."""
        return self.pace * self.even(t) ** (self.pace - 1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        mean, _, regression = self.moments(t)
        moved = -self.mean + (x.flatten(1) - mean) @ regression.T
        return (self.speed(t) * moved / (self.exits * self.end_time)).view_as(x)

    def variance(self, t: Tensor) -> Tensor:
        """Mean over the coordinates of Var[dx/dt | x(t)], in the loss's units: never explained."""
        _, spread, regression = self.moments(t)
        unexplained = torch.eye(len(self.mean)) + self.covariance
        variances = (unexplained - regression @ spread @ regression.T).diagonal()
        return (self.speed(t).square() * variances).mean()


def make_optimal(
    model: MultiscaleFlow, data: MultivariateNormal, pace: float = 1.0
) -> MultiscaleFlow:
    """Give every block its optimal field."""
    for leg in legs(model, pace=pace):
        leg.flow.defunc.vf = OptimalField(leg, data)
    return model


def least_loss(model: MultiscaleFlow) -> float:
    """The expected loss of the optimal fields: the mean over all times, by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    blocks = []
    for flow in model.blocks:
        assert isinstance(flow.field, OptimalField)
        times = torch.as_tensor((nodes + 1) / 2 * flow.end_time)
        values = torch.stack([flow.field.variance(t) for t in times])
        blocks.append(float(values @ torch.as_tensor(weights)) / 2)
    return math.fsum(blocks) / len(blocks)
