"""Fixed steps: equal ones, as many as it takes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.checks import check
from rnode_dyn.numerics.errors import MaxSecondsError, NonFiniteStateError
from rnode_dyn.numerics.numbers import positive
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stats import SolveStats, evaluations
from rnode_dyn.numerics.stepping.by_sample.control import Control, FixedControl
from rnode_dyn.numerics.stepping.deadline import Deadline, too_long
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm, named_norm
from rnode_dyn.numerics.stepping.unsolved import not_solved
from rnode_dyn.numerics.transforms import is_batched

# Steps that a sample may make where each goes its own way.
_MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class FixedStep:
    """Equal steps, as many as it takes for none to be longer than ``dt``.

    Args:
        dt: Longest step, positive in either direction of time.
        max_seconds: Seconds after which the solve gives up; left out, it may take any time.

    Example:
        >>> FixedStep(0.25).count((0.0, 1.0)), FixedStep(0.3).count((1.0, 0.0))
        (4, 4)
    """

    dt: float
    max_seconds: float | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dt", positive("FixedStep", "dt", self.dt))
        if self.max_seconds is not None:
            seconds = positive("FixedStep", "max_seconds", self.max_seconds)
            object.__setattr__(self, "max_seconds", seconds)

    def check(self, algorithm: Algorithm) -> None:
        """Refuse an algorithm that chooses its method by how long its steps may be."""
        if algorithm.switches:
            raise ValueError(
                f"{algorithm.name} changes its method where steps could be longer, and those of "
                "FixedStep are as they are: write AdaptiveStep(rtol, atol), or take one of its "
                "methods alone."
            )

    def error_norm(self, mask: Tensor | None) -> ErrorNorm:
        """Fixed steps control no error; the norm is there for those that ask."""
        return named_norm("rms", mask)

    def count(self, t_span: tuple[float, float]) -> int:
        """How many steps the span takes."""
        return max(1, math.ceil(abs(t_span[1] - t_span[0]) / self.dt - 1e-9))

    def sample_control(self, algorithm: Algorithm, mask: Tensor | None, batch: int) -> Control:
        """Return what lets every sample make equal steps of its own, as events need it."""
        too_many = f"the end of the time span was not reached in {_MOST_STEPS} steps"
        return FixedControl(self.dt, _MOST_STEPS, too_many, self.max_seconds)

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

        The states are looked at together at the end, by one check for the whole solve.
        """
        count = self.count(t_span)
        times = [t_span[0] + (t_span[1] - t_span[0]) * i / count for i in range(count)]
        times.append(t_span[1])
        slope, finite = None, [_finite_samples(x)]
        deadline = Deadline(self.max_seconds)
        for start, end in pairwise(times):
            if deadline.has_passed:
                _check_finite(torch.stack(finite), times, evaluations(rhs))
                self._give_up(start, end, len(finite) - 1, rhs)
            step = algorithm.advance(rhs, start, end - start, x, slope)
            step.ends_at = end
            if step.failure is not None:
                raise not_solved(step, stats.accepted + 1, rhs)
            stats.note_step(start, step.dt)
            finite.append(_finite_samples(step.x1))
            yield step
            x, slope = step.x1, step.end_slope
        _check_finite(torch.stack(finite), times, evaluations(rhs))

    def _give_up(self, start: float, end: float, steps: int, rhs: RightHandSide) -> NoReturn:
        raise MaxSecondsError(
            too_long(self.max_seconds),
            t=start,
            dt=end - start,
            steps=steps,
            nfe=evaluations(rhs),
            worst_sample=0,
        )


def _finite_samples(x: Tensor) -> Tensor:
    """Which samples are finite, (batch,)."""
    return torch.isfinite(x.detach()).reshape(x.shape[0], -1).all(1)


def _check_finite(finite: Tensor, times: list[float], nfe: int) -> None:
    """Raise for the first step whose end is not finite; row ``i`` belongs to ``times[i]``.

    Within ``vmap`` there is nothing to be read; what is not finite is seen in the result.
    """
    if not is_batched(finite):
        check(finite.all(), lambda: _not_finite(finite.cpu(), times, nfe))


def _not_finite(table: Tensor, times: list[float], nfe: int) -> NonFiniteStateError:
    row = int((~table.all(1)).int().argmax())
    before = max(row - 1, 0)
    return NonFiniteStateError(
        "the state is not finite any more" if row else "the state to start from is not finite",
        t=times[before],
        dt=times[row] - times[before],
        steps=row,
        nfe=nfe,
        worst_sample=int((~table[row]).int().argmax()),
    )
