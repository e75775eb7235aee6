"""How far to step: what a stepping is asked for."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.by_sample.control import Control
from rnode_dyn.numerics.stepping.error_norm import ErrorNorm


class Stepping(Protocol):
    """Turns an algorithm into the steps of one solve."""

    def check(self, algorithm: Algorithm) -> None:
        """Raise ``ValueError`` where the algorithm cannot be stepped this way."""
        ...

    def sample_control(self, algorithm: Algorithm, mask: Tensor | None, batch: int) -> Control:
        """Return what chooses steps where every sample takes its own."""
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
