"""Fixed steps: equal ones, as many as it takes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.errors import NonFiniteStateError
from rnode_dyn.numerics.numbers import positive
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stats import SolveStats, evaluations
from rnode_dyn.numerics.stepping.by_sample.control import Control, FixedControl
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm, named_norm
from rnode_dyn.numerics.transforms import is_batched

# Steps that a sample may make where each goes its own way.
_MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class FixedStep:
    """Equal steps, as many as it takes for none to be longer than ``dt``.

    Args:
        dt: Longest step, positive in either direction of time.

    Example:
        >>> FixedStep(0.25).count((0.0, 1.0)), FixedStep(0.3).count((1.0, 0.0))
        (4, 4)
    """

    dt: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "dt", positive("FixedStep", "dt", self.dt))

    def check(self, algorithm: Algorithm) -> None:
        """Every algorithm can make fixed steps."""

    def error_norm(self, mask: Tensor | None) -> ErrorNorm:
        """Fixed steps control no error; the norm is there for those that ask."""
        return named_norm("rms", mask)

    def count(self, t_span: tuple[float, float]) -> int:
        """How many steps the span takes."""
        return max(1, math.ceil(abs(t_span[1] - t_span[0]) / self.dt - 1e-9))

    def sample_control(self, algorithm: Algorithm, mask: Tensor | None, batch: int) -> Control:
        """Return what lets every sample make equal steps of its own, as events need it."""
        too_many = f"the end of the time span was not reached in {_MOST_STEPS} steps"
        return FixedControl(self.dt, _MOST_STEPS, too_many)

    def steps(
        self,
        algorithm: Algorithm,
        rhs: RightHandSide,
        x: Tensor,
        t_span: tuple[float, float],
        stats: SolveStats,
        norm: ErrorNorm,
    ) -> Iterator[Step]:
        """Yield the steps; a state that is not finite raises once the span is done.

        The states are looked at together at the end, so that a GPU is waited for once in a solve.
        """
        count = self.count(t_span)
        times = [t_span[0] + (t_span[1] - t_span[0]) * i / count for i in range(count)]
        times.append(t_span[1])
        slope, finite = None, [_finite_samples(x)]
        for start, end in pairwise(times):
            step = algorithm.advance(rhs, start, end - start, x, slope)
            step.ends_at = end
            stats.accepted += 1
            finite.append(_finite_samples(step.x1))
            yield step
            x, slope = step.x1, step.end_slope
        _raise_unless_finite(torch.stack(finite), times, rhs)


def _finite_samples(x: Tensor) -> Tensor:
    """Which samples are finite, (batch,)."""
    return torch.isfinite(x.detach()).reshape(len(x), -1).all(1)


def _raise_unless_finite(finite: Tensor, times: list[float], rhs: RightHandSide) -> None:
    """Raise for the first step whose end is not finite; row ``i`` belongs to ``times[i]``.

    Within ``vmap`` there is nothing to be read; what is not finite is seen in the result.
    """
    if is_batched(finite) or bool(finite.all()):
        return
    table = finite.cpu()
    row = int((~table.all(1)).int().argmax())
    before = max(row - 1, 0)
    raise NonFiniteStateError(
        "the state is not finite any more" if row else "the state to start from is not finite",
        t=times[before],
        dt=times[row] - times[before],
        steps=row,
        nfe=evaluations(rhs),
        worst_sample=int((~table[row]).int().argmax()),
    )
