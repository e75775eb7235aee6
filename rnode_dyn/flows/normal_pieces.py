"""Pieces of normal distributions: what noise within a pixel's bin can be, and what it then means.

Noise that is uniform within a bin of pixels is, behind :class:`~rnode_dyn.ThreeBells`, a piece of a
bell curve. On a straight path from such noise to Gaussian noise the expected velocity is known in
closed form, the bin being given: it is the mean of a normal distribution between two limits.
"""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

_NARROW = 0.05
"""Width in deviations below which a density is taken for an exponential one: to 1e-5."""

_FAR = 30.0
"""Deviations out in the tail from which on a density is taken for an exponential one."""

_ROOT_OF_TWO_PI = math.sqrt(2 * math.pi)


class NormalPieces(NamedTuple):
    """Normal distributions cut off at two limits, one an entry.

    Attributes:
        centre: Their means before they were cut.
        deviation: Their standard deviations before they were cut.
        low: Where they begin.
        high: Where they end.
    """

    centre: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor

    def at(self, index: Tensor) -> Self:
        """Return the pieces at these places of each tensor's only axis, shaped as ``index``."""
        return type(self)(*(entries[index] for entries in self))

    def velocity(self, x: Tensor, time: Tensor) -> Tensor:
        """Return E[z − a | x, pieces] at x = (1 − t) a + t z, with a in its piece and z ~ N(0, 1).

        Args:
            x: Where the paths are, shaped as the pieces.
            time: Times from 0 to 1, which broadcast to that; from 1e-6 on, for an earlier one it is
                taken.

        Example:
            >>> half = NormalPieces(*map(torch.tensor, (0.0, 1.0, 0.0, torch.inf)))
            >>> half.velocity(torch.tensor(0.5), torch.tensor(1.0)).round(decimals=4)
            tensor(-0.2979)
            >>> round(0.5 - math.sqrt(2 / math.pi), 4)  # z is 0.5, and a half-normal's mean known
            -0.2979
        """
        t = time.clamp(min=1e-6)
        variance = self.deviation.square()
        joint = (1 - t).square() * variance + t.square()  # of x, before the cut
        root = joint.sqrt()
        middle = (self.centre * t.square() + (1 - t) * variance * x) / joint
        spread = self.deviation * t / root
        mean = truncated_mean((self.low - middle) / spread, (self.high - middle) / spread)
        # (x − E a)/t, written without the difference, which would be lost at early times.
        return (t * (x - self.centre) - (1 - t) * variance * x) / joint - self.deviation * (
            mean / root
        )


def truncated_mean(low: Tensor, high: Tensor) -> Tensor:
    """Return the mean of a standard normal variable that is known to lie between two limits.

    Args:
        low: The lower limit, −∞ for none.
        high: The upper limit, ∞ for none.

    Example:
        >>> limits = torch.tensor([-torch.inf, 0.0, 40.0]), torch.tensor([1.0, 3.0, 41.0])
        >>> truncated_mean(*limits).round(decimals=3)
        tensor([-0.2880,  0.7910, 40.0250])
    """
    # In the lower half, where Φ is small and known to all its digits.
    mirrored = low + high > 0
    a, b = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    mean = torch.where(b - a < _NARROW, _narrow(a, b), _wide(a, b))
    mean = torch.minimum(torch.maximum(mean, a), b)
    return torch.where(mirrored, -mean, mean)


def _wide(a: Tensor, b: Tensor) -> Tensor:
    """(φ(a) − φ(b))/(Φ(b) − Φ(a)), divided through by φ(b), which may be too small for a number."""
    near_b = b.clamp(-_FAR, 12.0)
    ratio = torch.exp((near_b.square() - a.square()) / 2).clamp(max=1.0)
    mean = (ratio - 1) / (_mass_over_density(near_b) - ratio * _mass_over_density(a))
    width = (b - a).clamp(max=_FAR)
    far = b + 1 / b + width / torch.expm1(-b * width)
    return torch.where(b < -_FAR, far, mean)


def _mass_over_density(x: Tensor) -> Tensor:
    """Φ(x)/φ(x)."""
    x = x.clamp(min=-_FAR - 10)
    return _ROOT_OF_TWO_PI * torch.exp(torch.special.log_ndtr(x) + x.square() / 2)


def _narrow(a: Tensor, b: Tensor) -> Tensor:
    """Within a narrow piece the density is exp(−c·x), c being its middle."""
    middle, half = (a + b) / 2, (b - a) / 2
    slope = middle * half
    bent = torch.where(slope.abs() < 0.1, slope / 3, 1 / torch.tanh(slope) - 1 / slope)
    return middle - half * bent
