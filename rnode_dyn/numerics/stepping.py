"""How far to step: fixed steps, or steps chosen by their estimated error."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from rnode_dyn.numerics.adaptive import AdaptiveSolve
from rnode_dyn.numerics.error_norm import ErrorNorm, NormName, named_norm
from rnode_dyn.numerics.errors import NonFiniteStateError
from rnode_dyn.numerics.stats import SolveStats, evaluations
from rnode_dyn.numerics.stepper import Algorithm, RightHandSide, Step


class Stepping(Protocol):
    """Turns an algorithm into the steps of one solve."""

    def check(self, algorithm: Algorithm) -> None:
        """Raise ``ValueError`` where the algorithm cannot be stepped this way."""
        ...

    def error_norm(self, mask: Tensor | None) -> ErrorNorm:
        """Return the norm of the errors under control."""
        ...

    def steps(
        self,
        algorithm: Algorithm,
        rhs: RightHandSide,
        x: Tensor,
        t_span: tuple[float, float],
        stats: SolveStats,
        norm: ErrorNorm,
    ) -> Iterator[Step]:
        """Yield the accepted steps, from the start of the span to its end."""
        ...


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
        _check_positive("FixedStep", dt=self.dt)

    def check(self, algorithm: Algorithm) -> None:
        """Every algorithm can make fixed steps."""

    def error_norm(self, mask: Tensor | None) -> ErrorNorm:
        """Fixed steps control no error; the norm is there for those that ask."""
        return named_norm("rms", mask)

    def count(self, t_span: tuple[float, float]) -> int:
        """How many steps the span takes."""
        return max(1, math.ceil(abs(t_span[1] - t_span[0]) / self.dt - 1e-9))

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


@dataclass(frozen=True)
class AdaptiveStep:
    """Steps as long as the estimated error allows, under PI control.

    The error of a step is measured relative to ``atol + rtol · max(|x0|, |x1|)`` (Hairer, Nørsett
    & Wanner, Solving ODEs I, II.4).

    Args:
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        first_step: Length of the first step that is tried; left out, it is estimated.
        max_steps: Steps, rejected ones included, after which the solve gives up.
        norm: ``"rms"`` averages the error over the batch, as other libraries do; with ``"max"``
            every sample meets the tolerance, whatever it is batched with.

    Example:
        >>> AdaptiveStep(rtol=1e-3, atol=1e-6, norm="max")
        AdaptiveStep(rtol=0.001, atol=1e-06, first_step=None, max_steps=10000, norm='max')
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    first_step: float | None = None
    max_steps: int = 10_000
    norm: NormName = "rms"

    def __post_init__(self) -> None:
        _check_positive("AdaptiveStep", rtol=self.rtol, atol=self.atol, max_steps=self.max_steps)
        if self.max_steps != int(self.max_steps):
            raise ValueError(
                f"AdaptiveStep: max_steps is {self.max_steps!r}; write a whole number of steps."
            )
        if self.first_step is not None:
            _check_positive("AdaptiveStep", first_step=self.first_step)
        if self.norm not in ("rms", "max"):
            raise ValueError(
                f'AdaptiveStep: norm is {self.norm!r}; write "rms" (error averaged over the '
                'batch) or "max" (every sample meets the tolerance).'
            )

    def check(self, algorithm: Algorithm) -> None:
        """Refuse an algorithm that cannot tell its error."""
        if algorithm.embedded_order is None:
            raise ValueError(
                f"{algorithm.name} has no error estimate, so AdaptiveStep cannot choose its steps: "
                "write FixedStep(0.25), or take an embedded method such as Dopri5() or Tsit5()."
            )

    def error_norm(self, mask: Tensor | None) -> ErrorNorm:
        """Return the norm of the errors under control."""
        return named_norm(self.norm, mask)

    def steps(
        self,
        algorithm: Algorithm,
        rhs: RightHandSide,
        x: Tensor,
        t_span: tuple[float, float],
        stats: SolveStats,
        norm: ErrorNorm,
    ) -> Iterator[Step]:
        """Yield the accepted steps."""
        return AdaptiveSolve(self, algorithm, rhs, x, t_span, stats, norm).run()


def _finite_samples(x: Tensor) -> Tensor:
    """Which samples are finite, (batch,)."""
    return torch.isfinite(x.detach()).reshape(len(x), -1).all(1)


def _raise_unless_finite(finite: Tensor, times: list[float], rhs: RightHandSide) -> None:
    """Raise for the first step whose end is not finite; row ``i`` belongs to ``times[i]``."""
    if bool(finite.all()):
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


def _check_positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ValueError(
                f"{owner}: {name} is {value!r}; write a positive number (time may run backwards "
                "all the same: t_span alone gives the direction)."
            )
