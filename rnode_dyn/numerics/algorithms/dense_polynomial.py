"""Dense output that is a polynomial in what a step has computed: it evaluates nothing."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Fractions, Step, UnitTime, scaled


class PolynomialDense(Algorithm):
    """An algorithm whose states within a step are x0 + Σ_p θ^p Σ_i w_pi part_i, from p = 1."""

    @property
    @abstractmethod
    def dense_powers(self) -> np.ndarray:
        """The weights w, ``(degree, parts)``; the first row is that of θ."""

    @abstractmethod
    def dense_parts(self, step: Step) -> list[Tensor]:
        """Return the parts, each like the state."""

    def interpolate_each(self, rhs: UnitTime, step: Step, theta: Fractions) -> Tensor:
        """State of every sample at a fraction of its own of ``step``."""
        return step.x0 + self._combined(step, _powers(theta, len(self.dense_powers)))

    def slope_each(self, step: Step, theta: Fractions) -> Tensor | None:
        """Slope of the polynomial there, in the time of the step."""
        degrees = np.arange(1, len(self.dense_powers) + 1)
        return self._combined(step, degrees * _powers(theta, len(degrees), first=0))

    def states_between(self, step: Step, fractions: np.ndarray) -> Tensor | None:
        """States at fractions of a step, the same for all samples, ``(k, batch, *event)``."""
        weights = _powers(fractions, len(self.dense_powers)) @ self.dense_powers
        parts, x0 = torch.stack(self.dense_parts(step)).detach(), step.x0.detach()
        numbers = torch.from_numpy(weights).to(dtype=x0.dtype, device=x0.device)
        return x0 + torch.tensordot(numbers, parts, dims=1)

    def _combined(self, step: Step, powers: np.ndarray) -> Tensor:
        """The parts of every sample, weighed by powers of its own, ``(batch, degree)``."""
        weights = powers @ self.dense_powers
        parts = self.dense_parts(step)
        first, *rest = (scaled(part, w) for part, w in zip(parts, weights.T, strict=True))
        return sum(rest, first)


def _powers(theta: np.ndarray, count: int, first: int = 1) -> np.ndarray:
    """So many powers of each number, from the first one on, ``(n, count)``."""
    return theta[:, None] ** np.arange(first, first + count)
