"""What a solve cost, counted while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.numerics.problem import RightHandSide


@dataclass
class SolveStats:
    """The cost of one solve; the backward figures fill in when the gradient is computed.

    Attributes:
        nfe: Evaluations of the field in the forward solve, those of dense output included.
        nfe_backward: Evaluations of the field while the gradient was computed.
        nvjp: Vector-Jacobian products of the field while the gradient was computed.
        accepted: Steps accepted in the forward solve.
        rejected: Steps that the error control threw away.
    """

    nfe: int = 0
    nfe_backward: int = 0
    nvjp: int = 0
    accepted: int = 0
    rejected: int = 0


class CountedField:
    """A field as the steppers call it: time as a float, every evaluation counted.

    Args:
        field: ``field(t, x)`` with ``t`` a 0-dim tensor.
        stats: Where the evaluations are counted.
        counter: Which of its counters: ``"nfe"`` or ``"nfe_backward"``.
    """

    def __init__(
        self, field: Callable[[Tensor, Tensor], Tensor], stats: SolveStats, counter: str = "nfe"
    ) -> None:
        self.field = field
        self.stats = stats
        self.counter = counter

    def __call__(self, t: float, x: Tensor) -> Tensor:
        """Evaluate the field; its answer must have the state's shape."""
        setattr(self.stats, self.counter, getattr(self.stats, self.counter) + 1)
        slope = self.field(torch.full((), t, dtype=x.dtype, device=x.device), x)
        if not isinstance(slope, Tensor):
            raise TypeError(f"the field returned {slope!r}; it must return dx/dt, a tensor like x.")
        if slope.shape != x.shape:
            raise ValueError(
                f"the field returned shape {tuple(slope.shape)} for a state of shape "
                f"{tuple(x.shape)}: it must return dx/dt, one value for every entry of x."
            )
        if slope.requires_grad:
            slope.register_hook(self._count_vjp)
        return slope

    def _count_vjp(self, grad: Tensor) -> None:  # a hook's signature
        self.stats.nvjp += 1


def evaluations(rhs: RightHandSide) -> int:
    """How many evaluations a counted field has made; 0 for one that does not count."""
    if isinstance(rhs, CountedField):
        return rhs.stats.nfe + rhs.stats.nfe_backward
    return 0
