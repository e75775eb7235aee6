"""What a solve cost, counted while it runs."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rnode_dyn.numerics.jacobian import Linearization, linearize
from rnode_dyn.numerics.problem import ODEProblem, RightHandSide
from rnode_dyn.numerics.slope import check_slope, check_unchanged, first_evaluation, version_of
from rnode_dyn.numerics.step_log import StepLog, StepRecord

_OF_STEPS = ("accepted", "rejected", "records", "accepted_per_sample", "rejected_per_sample")


@dataclass
class SolveStats:
    """The cost of one solve; the backward figures fill in when the gradient is computed.

    Attributes:
        nfe: Evaluations of the field in the forward solve, those of dense output included.
        nfe_backward: Evaluations of the field while the gradient was computed.
        nvjp: Vector-Jacobian products of the field while the gradient was computed.
        accepted: Steps accepted in the forward solve.
        rejected: Steps that the error control threw away.
        nfe_per_sample: Where each sample steps by itself, in how many of the ``nfe`` evaluations
            it took part, ``(batch,)``; ``None`` where all take the same steps.
        accepted_per_sample: Steps that each sample accepted; ``accepted`` is their sum.
        rejected_per_sample: Steps that each sample rejected; ``rejected`` is their sum.
        njac: Jacobians of the field in the forward solve, by methods for stiff problems.
        nsolve: Linear systems solved with them, one for the whole batch.
    """

    nfe: int = 0
    nfe_backward: int = 0
    nvjp: int = 0
    accepted: int = 0
    rejected: int = 0
    nfe_per_sample: Tensor | None = field(default=None, compare=False)
    accepted_per_sample: Tensor | None = field(default=None, compare=False)
    rejected_per_sample: Tensor | None = field(default=None, compare=False)
    njac: int = 0
    nsolve: int = 0
    records: list[tuple[float, float, float, bool]] = field(
        default_factory=list, repr=False, compare=False
    )

    def note_step(
        self, t: float, dt: float, error: float = math.nan, accepted: bool = True
    ) -> None:
        """Count a step that was tried; ``error`` is a multiple of the tolerance."""
        if accepted:
            self.accepted += 1
        else:
            self.rejected += 1
        # Bare: records are made of them when somebody asks.
        self.records.append((t, dt, error, accepted))

    @property
    def steps(self) -> StepLog:
        """Every step that was tried: its ``t``, ``dt``, ``error`` and whether it was accepted.

        Raises:
            ValueError: where every sample made steps of its own.
        """
        if self.accepted_per_sample is not None:
            raise ValueError(
                "with AdaptiveStep(per_sample=True) every sample makes steps of its own, and no "
                "list tells them all: stats.accepted_per_sample and rejected_per_sample count them."
            )
        return StepLog([StepRecord(*record) for record in self.records])

    @contextmanager
    def steps_known(self) -> Iterator[None]:
        """Count evaluations only: the steps made within have been counted before."""
        before = {name: getattr(self, name) for name in _OF_STEPS}
        for name, known in before.items():
            setattr(self, name, copy.deepcopy(known))
        try:
            yield
        finally:
            for name, known in before.items():
                setattr(self, name, known)


class CountedField:
    """A field as the steppers call it: time as a float, every evaluation counted and looked at.

    Args:
        problem: Whose field it is.
        stats: Where the evaluations are counted.
        counter: Which of its counters: ``"nfe"`` or ``"nfe_backward"``.
    """

    def __init__(self, problem: ODEProblem, stats: SolveStats, counter: str = "nfe") -> None:
        self.problem, self.stats, self.counter = problem, stats, counter
        self.is_new = True
        self.known: Tensor | None = None
        self.linearized: tuple[tuple, Tensor, Linearization] | None = None

    def __call__(self, t: float, x: Tensor) -> Tensor:
        """Evaluate the field; its answer must be a slope of the state."""
        known = self._known_slope(t, x)
        if known is not None:
            return known
        if self.counter == "nfe" and self.stats.nfe_per_sample is not None:
            # A new one: whoever looks what a field writes to must not see the count.
            self.stats.nfe_per_sample = self.stats.nfe_per_sample + 1
        return self.counted(self._evaluate, torch.full((), t, dtype=x.dtype, device=x.device), x)

    def counted(self, evaluate: Callable[[Tensor, Tensor], Tensor], t: Tensor, x: Tensor) -> Tensor:
        """Evaluate, count it, and look at the answer."""
        setattr(self.stats, self.counter, getattr(self.stats, self.counter) + 1)
        version = version_of(x)
        slope = evaluate(t, x)
        check_slope(slope, x)
        check_unchanged(x, version)
        if slope.requires_grad:
            slope.register_hook(self._count_vjp)
        return slope

    def part(self, of: Callable[[Tensor], Tensor], x: Tensor, counts: bool = True) -> Tensor:
        """Evaluate a part of the field that no time is told, such as a force."""
        return self.counted(lambda _, x: of(x), x, x) if counts else of(x)

    def linearize(self, t: float, x: Tensor) -> Linearization:
        """Return the field's derivatives; a step made again from the same start has them still."""
        key = (t, id(x), torch.is_grad_enabled())
        if self.linearized is None or self.linearized[0] != key:
            time = torch.full((), t, dtype=x.dtype, device=x.device)
            offered = getattr(self.problem.field, "jacobian", None)
            found = linearize(self.problem.called, time, x, offered)
            self.linearized = (key, x, found)
            self.count("njac")
        return self.linearized[2]

    def count(self, name: str) -> None:
        """Count one more of something in the forward solve."""
        if self.counter == "nfe":
            setattr(self.stats, name, getattr(self.stats, name) + 1)

    def _known_slope(self, t: float, x: Tensor) -> Tensor | None:
        """The slope at the start, once, where it has been evaluated before the solve: ``known``."""
        known, self.known = self.known, None
        return known if x is self.problem.x0 and t == self.problem.span[0] else None

    def _evaluate(self, t: Tensor, x: Tensor) -> Tensor:
        if not self.is_new:
            return self.problem.called(t, x)
        self.is_new = False
        return first_evaluation(self.problem.called, t, x, self.problem.known_tensors)

    def _count_vjp(self, grad: Tensor) -> None:  # a hook's signature
        self.stats.nvjp += 1


def evaluations(rhs: RightHandSide) -> int:
    """How many evaluations a counted field has made; 0 for one that does not count."""
    if isinstance(rhs, CountedField):
        return rhs.stats.nfe + rhs.stats.nfe_backward
    return 0
