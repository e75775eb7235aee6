"""What a solve returns: the states it saved, and the state at any other time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rnode_dyn.numerics.asked_times import AskedTimes, asked_times
from rnode_dyn.numerics.reading import Reader
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.step_log import StepLog


@dataclass(frozen=True, eq=False)
class Solution:
    """The states of a solve; called with a time, the state then.

    ``t, x = solution`` unpacks it, and ``zip(*solution)`` runs through the pairs of a time and
    its state.

    Attributes:
        t: The saved times, ``(len(t),)``.
        x: The states there, ``(len(t), batch, *event)``; of a structured state the structure, each
            leaf of which has the times first.
        stats: What the solve cost.
        event_times: For each event the times at which it happened: ``(batch,)`` for one that ends
            a solve, ``(count, batch)`` for others, in their order. NaN where there is none.
        event_states: The states there, ``(batch, *event)`` or ``(count, batch, *event)``, in the
            structure of the state; where the event changes the state, before it does.

    Example:
        >>> import torch
        >>> from rnode_dyn import ODEProblem, solve
        >>> solution = solve(ODEProblem(lambda t, x: -x, torch.ones(1, 2), (0.0, 1.0)))
        >>> solution(0.3).shape, solution([0.3, 0.1, 0.9]).shape
        (torch.Size([1, 2]), torch.Size([3, 1, 2]))
        >>> torch.allclose(solution.derivative(0.3), -solution(0.3))
        True
        >>> t, x = solution
        >>> t
        tensor([0., 1.])
    """

    t: Tensor
    x: Any
    stats: SolveStats
    reader: Reader | None = field(default=None, repr=False)
    whole: Callable[[Tensor], Any] | None = field(default=None, repr=False)
    event_times: tuple[Tensor, ...] = ()
    event_states: tuple[Any, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        """Yield the times, then the states."""
        yield self.t
        yield self.x

    @property
    def steps(self) -> StepLog:
        """Every step that was tried: its ``t``, ``dt``, ``error`` and whether it was accepted.

        Raises:
            ValueError: where every sample made steps of its own.
        """
        return self.stats.steps

    def __call__(self, t: Any, per_sample: bool = False) -> Any:
        """Return the state at any time of the span, by the algorithm's own interpolant.

        Gradients reach what those of ``x`` reach, and a time that is a tensor which wants one:
        ∂x(t)/∂t = f(t, x(t)). The steps of a plain solve are kept and read; where it was told
        what to save, or keeps no steps (adjoints, events, samples that step by themselves), it is
        solved once more: then ask for all times at once.

        Args:
            t: A number, or several in any order, as a list or tensor ``(k,)``.
            per_sample: Whether ``t`` holds one time for each sample, ``(batch,)``.

        Returns:
            ``(batch, *event)`` for a number and with ``per_sample``, otherwise
            ``(k, batch, *event)``.

        Raises:
            TypeError: if ``t`` is no time.
            ValueError: if a time lies outside the span.
            RuntimeError: if the field is needed, and is not what was solved any more.
        """
        reader, asked = self._asked(t, per_sample)
        return self._whole(reader.states(asked, per_sample))

    def derivative(self, t: Any, per_sample: bool = False) -> Any:
        """Return dx/dt at any time of the span: the field there, f(t, x(t)).

        It is as accurate as the state, and one evaluation a time.

        Args:
            t: As when the solution is called.
            per_sample: Likewise.
        """
        reader, asked = self._asked(t, per_sample)
        return self._whole(reader.slopes(asked, per_sample))

    def _whole(self, flat: Tensor) -> Any:
        return flat if self.whole is None else self.whole(flat)

    def _asked(self, t: Any, per_sample: bool) -> tuple[Reader, AskedTimes]:
        if self.reader is None:
            raise ValueError(
                "this solution holds its saved states alone, solution.x at solution.t: the solve "
                "that it comes from kept no steps."
            )
        asked = asked_times(t, self.reader.span, self.reader.problem.time_rounding)
        batch = len(self.reader.problem.x0)
        if per_sample and (asked.is_single or len(asked.given) != batch):
            raise ValueError(
                f"per_sample=True takes one time for each of the {batch} samples, and "
                f"{len(asked.given)} was given: write a tensor of shape ({batch},)."
            )
        return self.reader, asked
