"""What an event is."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from rnode_dyn.numerics.errors import SolverError, first_line
from rnode_dyn.numerics.numbers import whole


@dataclass(frozen=True, eq=False)
class Event:
    """A change of sign along a solution, found for every sample by itself.

    The condition is looked at where each step ends, and at ``interp_points`` points between, so
    that two changes of sign go unseen only where they lie between the same two of them; a start on
    the event itself is none.

    Args:
        condition: g(t, x), of shape ``(n,)`` for times ``(n,)`` and states ``(n, *event)``: the
            samples that are still on their way. The event is where g becomes zero or changes sign.
        terminate: Whether a sample's solve ends there, its state frozen; left out, it does unless
            there is ``apply``.
        direction: 1 for a g that rises, −1 for one that falls, as the solve runs; 0 for both.
        apply: Takes (t, x), as the condition does, to the state that the solve goes on from.
        interp_points: Points within each step, evenly spaced, at which the condition is looked at
            besides the step's end: on a cubic through the step, and where it changes sign there
            on the algorithm's own interpolant. 0 looks at the ends alone.

    Raises:
        TypeError: if the condition or ``apply`` cannot be called.
        ValueError: if the direction is none of the three, ``interp_points`` is no whole number of
            at least 0, or it is both said that a solve ends and how it goes on.

    Example:
        A ball that is dropped from 20 metres, with g = 10, reaches the ground after 2 seconds.

        >>> import torch
        >>> from rnode_dyn import ODEProblem, solve
        >>> def fall(t, x):
        ...     return torch.stack([x[:, 1], torch.full_like(t, -10.0).expand(len(x))], dim=1)
        >>> start = torch.tensor([[20.0, 0.0]], dtype=torch.float64)
        >>> ground = Event(lambda t, x: x[:, 0], direction=-1)
        >>> solution = solve(ODEProblem(fall, start, (0.0, 10.0)), events=[ground])
        >>> solution.event_times[0]
        tensor([2.0000], dtype=torch.float64)
    """

    condition: Callable[[Tensor, Tensor], Tensor]
    terminate: bool | None = None
    direction: int = 0
    apply: Callable[[Tensor, Tensor], Tensor] | None = None
    interp_points: int = 10

    def __post_init__(self) -> None:
        for name in ("condition", "apply"):
            given = getattr(self, name)
            if not (callable(given) or (name == "apply" and given is None)):
                raise TypeError(f"Event: {name} is {given!r}; write a function of (t, x).")
        if isinstance(self.direction, bool) or self.direction not in (-1, 0, 1):
            raise ValueError(
                f"Event: direction is {self.direction!r}; write 1 (the condition rises), -1 (it "
                "falls) or 0 (either)."
            )
        wanted = "how many points to look at within a step, a whole number, 0 or more"
        points = whole("Event", "interp_points", self.interp_points, wanted, least=0)
        object.__setattr__(self, "interp_points", points)
        if self.terminate is None:
            object.__setattr__(self, "terminate", self.apply is None)
        if not isinstance(self.terminate, bool):
            raise TypeError(f"Event: terminate is {self.terminate!r}; write True or False.")
        if self.terminate and self.apply is not None:
            raise ValueError(
                "Event: terminate=True ends the solve, and apply says how it goes on: leave one "
                "of them out."
            )

    @property
    def interrupts(self) -> bool:
        """Whether the solve does not simply go on."""
        return bool(self.terminate) or self.apply is not None

    def values(self, t: Tensor, x: Tensor) -> Tensor:
        """Return g(t, x), ``(n,)``.

        Raises:
            TypeError: if the condition returns no floating tensor.
            ValueError: if it fails, or returns another shape.
        """
        value = _called("condition", self.condition, t, x)
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(
                f"an event's condition returned {kind}: it must return a floating tensor that "
                "changes sign at the event, such as x[:, 0] - 1."
            )
        if value.shape != t.shape:
            raise ValueError(
                f"an event's condition returned shape {tuple(value.shape)} for {len(t)} samples: "
                f"it must return one number a sample, of shape ({len(t)},)."
            )
        return value

    def applied(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the state to go on from, like ``x``.

        Raises:
            ValueError: if ``apply`` fails, or returns what is no such state.
        """
        assert self.apply is not None
        after = _called("apply", self.apply, t, x)
        if not isinstance(after, Tensor) or (after.shape, after.dtype) != (x.shape, x.dtype):
            given = (
                f"{after.dtype} of shape {tuple(after.shape)}"
                if isinstance(after, Tensor)
                else type(after).__name__
            )
            raise ValueError(
                f"an event's apply returned {given}: it must return the state to go on from, "
                f"{x.dtype} of shape {tuple(x.shape)}."
            )
        return after


def _called(name: str, function: Callable[..., Tensor], t: Tensor, x: Tensor) -> Tensor:
    try:
        return function(t, x)
    except SolverError:
        raise
    except (RuntimeError, IndexError, TypeError) as error:
        raise ValueError(
            f"an event's {name} fails on times of shape {tuple(t.shape)} and states of shape "
            f"{tuple(x.shape)} ({first_line(error)}): it must take a batch of both, (t, x)."
        ) from error
