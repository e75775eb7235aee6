"""Evaluating a field again as it was: with the random numbers it drew, and what it held then.

A field may draw random numbers (dropout) or write to tensors of its own (batch normalisation,
power iterations). A step that is made again must find both as they were at the first time, each
evaluation for itself, since an adaptive solve makes evaluations that belong to no accepted step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import ODEProblem, RightHandSide
from rnode_dyn.numerics.random_state import TorchRandomState
from rnode_dyn.numerics.stats import CountedField, SolveStats


class Mark(NamedTuple):
    """What an evaluation found.

    Attributes:
        random: Where torch's random numbers stood.
        held: What the tensors that the field writes to held.
    """

    random: TorchRandomState
    held: tuple[Tensor, ...]


class Replay:
    """Notes what evaluations find, and puts it back.

    Args:
        device: Where the solve runs.
        written: Tensors that the field writes to, each with what it held at first.
        random: Where torch's random numbers stood then.
        draws: Whether the field draws from them.
    """

    def __init__(
        self,
        device: torch.device,
        written: Sequence[tuple[Tensor, Tensor]],
        random: TorchRandomState,
        draws: bool,
    ) -> None:
        self.device, self.draws = device, draws
        self.tensors = [tensor for tensor, _ in written]
        self.first = Mark(random, tuple(before for _, before in written))

    @property
    def is_needed(self) -> bool:
        """Whether an evaluation can find anything else at its second time."""
        return self.draws or bool(self.tensors)

    def now(self) -> Mark:
        """Return what an evaluation would find at this moment."""
        random = TorchRandomState.now(self.device) if self.draws else self.first.random
        return Mark(random, tuple(tensor.detach().clone() for tensor in self.tensors))

    def put(self, mark: Mark) -> None:
        """Let the next evaluation find what another one found."""
        if self.draws:
            mark.random.put_back()
        for tensor, held in zip(self.tensors, mark.held, strict=True):
            # Through data: these are no changes that autograd must know of.
            tensor.data.copy_(held)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Leave everything, at the end, as it was at the beginning."""
        now = self.now()
        try:
            yield
        finally:
            self.put(now)


class RecordedField(CountedField):
    """A field that notes what each evaluation finds.

    Args:
        problem: Whose field it is.
        stats: Where its evaluations are counted.
        replay: What takes the notes.
    """

    def __init__(self, problem: ODEProblem, stats: SolveStats, replay: Replay) -> None:
        super().__init__(problem, stats)
        self.replay = replay
        self.marks: list[Mark] = []
        self.slopes: list[tuple[Tensor, Mark]] = []

    def _known_slope(self, t: float, x: Tensor) -> Tensor | None:
        known = super()._known_slope(t, x)
        if known is not None:
            self._note(known, self.replay.first)
        return known

    def _evaluate(self, t: Tensor, x: Tensor) -> Tensor:
        mark = self.replay.now()
        slope = super()._evaluate(t, x)
        self._note(slope, mark)
        return slope

    def _note(self, slope: Tensor, mark: Mark) -> None:
        self.marks.append(mark)
        self.slopes.append((slope, mark))

    def begin_step(self, slope: Tensor | None) -> None:
        """Forget all marks but that of the slope which a step begins with."""
        self.slopes = [(known, mark) for known, mark in self.slopes if known is slope]
        self.marks = [mark for _, mark in self.slopes]


class RecordedAlgorithm(Algorithm):
    """An algorithm whose last step is known by what its evaluations found.

    The accepted step of a stepping is the last that it tried.

    Args:
        algorithm: What steps.
        field: What notes the marks.
    """

    def __init__(self, algorithm: Algorithm, field: RecordedField) -> None:
        self.algorithm, self.field = algorithm, field
        self.order = algorithm.order

    @property
    def embedded_order(self) -> int | None:
        """That of the algorithm."""
        return self.algorithm.embedded_order

    @property
    def is_implicit(self) -> bool:
        """That of the algorithm."""
        return self.algorithm.is_implicit

    def started(self, tolerances: tuple[Any, Any] | None = None) -> "RecordedAlgorithm":
        """Return the same of what makes the steps of one solve."""
        return RecordedAlgorithm(self.algorithm.started(tolerances), self.field)

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step; ``field.marks`` are then its own, the first that of its start."""
        self.field.begin_step(slope)
        return self.algorithm.advance(rhs, t, dt, x, slope)


class ReplayedField(CountedField):
    """A field whose evaluations find what those of the forward solve found.

    Args:
        problem: Whose field it is.
        stats: Where its evaluations are counted.
    """

    def __init__(self, problem: ODEProblem, stats: SolveStats) -> None:
        super().__init__(problem, stats, "nfe_backward")
        self.replay: Replay | None = None
        self.pending: Iterator[Mark] = iter(())

    def follow(self, replay: Replay, marks: Sequence[Mark]) -> None:
        """Let the next evaluations find these."""
        self.replay, self.pending = replay, iter(marks)

    def _evaluate(self, t: Tensor, x: Tensor) -> Tensor:
        mark = next(self.pending, None)
        if mark is not None and self.replay is not None:
            self.replay.put(mark)
        return super()._evaluate(t, x)
