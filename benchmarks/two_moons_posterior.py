"""The posterior of sbibm's two moons in closed form, and how far a flow is from it.

x − (0.25 − |u|, v) lies on a crescent (r cos a, r sin a), where u = (θ₁ + θ₂)/√2 and
v = (θ₂ − θ₁)/√2 are θ turned by 45°. So, under the uniform prior, the posterior is the crescent's
own density at (x₁ − 0.25 + |u|, x₂ − v), cut off where θ leaves the square, and drawn from by
drawing crescents, solving for u and v, and giving u either sign.
"""

import math

import torch
from torch import Tensor

from rnode_dyn import FlowDistribution

RADIUS, DEVIATION = 0.1, 0.01


def draw(observation: Tensor, count: int) -> tuple[Tensor, float]:
    """Return samples ``(n, 2)`` of about so many trials, and the part that was not cut off."""
    angle = torch.pi * (torch.rand(count) - 0.5)
    radius = RADIUS + DEVIATION * torch.randn(count)
    size = radius * angle.cos() + 0.25 - observation[0]
    u, v = size * torch.randn(count).sign(), observation[1] - radius * angle.sin()
    theta = torch.stack([u - v, u + v], dim=1) / math.sqrt(2)
    inside = (size >= 0) & (theta.abs() <= 1).all(1)
    return theta[inside], float(inside.float().mean())


def log_density(observation: Tensor, theta: Tensor, inside: float) -> Tensor:
    """Log p(θ | x), of θ in the square ``(n, 2)``; half of it lies on either side of u = 0."""
    u, v = theta.sum(1).abs() / math.sqrt(2), (theta[:, 1] - theta[:, 0]) / math.sqrt(2)
    a, b = observation[0] - 0.25 + u, observation[1] - v
    radius = torch.hypot(a, b)
    normal = -0.5 * ((radius - RADIUS) / DEVIATION).square()
    constant = math.log(DEVIATION * math.sqrt(2 * math.pi) * math.pi * 2 * inside)
    return (normal - radius.log() - constant).masked_fill(a <= 0, -math.inf)


@torch.no_grad()
def best_accuracy(given: FlowDistribution, observation: Tensor, count: int = 2000) -> float:
    """What the best of all classifiers would reach: (1 + total variation)/2, 0.5 is perfect.

    Args:
        given: The flow under the observation; what it puts outside of the square is left out.
        observation: x, ``(2,)``.
        count: Samples of either side.
    """
    theta, inside = draw(observation, count)
    kept = (given.sample((count,)).abs() <= 1).all(1).float().mean()
    ratio = (given.log_prob(theta) - log_density(observation, theta, inside)).exp() / kept
    return 0.5 + float((1 - ratio).clamp(min=0).mean()) / 2
