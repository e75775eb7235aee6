"""What a solve with events returns: its solution, and what happened on the way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from rnode_dyn.numerics.asked_times import AskedTimes
from rnode_dyn.numerics.events.integrate import Happened
from rnode_dyn.numerics.numbers import wants_gradient
from rnode_dyn.numerics.reading import Reader
from rnode_dyn.numerics.solution import Solution


class EventReader(Reader):
    """Answers for states that may have ended, where time and field say nothing of them any more."""

    def states(self, asked: AskedTimes, per_sample: bool) -> Tensor:
        """Return the states at the times asked for, through the same events again."""
        if any(map(wants_gradient, asked.given)):
            raise ValueError(
                "with events a sample's state may have ended, or jump, at a time that wants a "
                "gradient, which may then be none: write t.detach()."
            )
        return super().states(asked, per_sample)

    def slopes(self, asked: AskedTimes, per_sample: bool) -> Tensor:
        """Refuse: a state that has ended does not follow the field."""
        raise ValueError(
            "with events a sample's state may have ended, and then does not follow the field: "
            "read the states, solution(t), and evaluate the field at those on their way."
        )


def with_events(
    solution: Solution, happened: Happened | None, whole: Callable[[Tensor], Any] | None
) -> Solution:
    """Return a solution that tells of its events.

    Args:
        solution: Without them.
        happened: What was found.
        whole: How a state becomes what it was before it was packed.
    """
    assert happened is not None  # the solve is done
    reader, states = solution.reader, happened.states
    assert reader is not None
    return replace(
        solution,
        reader=EventReader(reader.problem, reader.reading, reader.stats),
        event_times=happened.times,
        event_states=states if whole is None else tuple(whole(x) for x in states),
    )
