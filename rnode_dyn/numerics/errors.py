"""What a solve that cannot go on raises: typed, and with the place where it broke."""

from typing import Any, Self, TypeVar


def first_line(error: Exception) -> str:
    """What an error says first; torch goes on with where it was raised.

    Example:
        >>> import os
        >>> first_line(RuntimeError(f"shapes do not fit{os.linesep}Exception raised from ..."))
        'shapes do not fit'
    """
    return str(error).strip().split("\n")[0]


BACKWARD = "in the backward pass"
"""What the reason of an error begins with that came up while a gradient was computed."""

_Kind = TypeVar("_Kind", bound="SolverError")


class SolverError(RuntimeError):
    """A solve that stopped before the end of its time span.

    Attributes:
        t: Time of the last sound state.
        dt: Signed step that was tried from there.
        steps: Steps tried so far, rejected ones included.
        nfe: Evaluations of the field so far.
        worst_sample: Index in the batch of the sample that failed, or whose error was largest.
        solution: The :class:`rnode_dyn.Solution` as far as it came, without a graph: the saved
            states that were passed and the last sound one. ``None`` in a backward pass, whose
            solve had come to its end, and where the error has crossed to another process.
    """

    solution: Any = None

    def __init__(
        self, reason: str, *, t: float, dt: float, steps: int, nfe: int, worst_sample: int
    ) -> None:
        super().__init__(
            f"{reason} (t = {t:.6g}, dt = {dt:.3g}, {steps} steps, {nfe} evaluations, "
            f"worst sample: {worst_sample})"
        )
        self.reason = reason
        self.t = t
        self.dt = dt
        self.steps = steps
        self.nfe = nfe
        self.worst_sample = worst_sample

    def changed(self, **figures: Any) -> Self:
        """Return the error with another reason or other figures, such as ``worst_sample=3``."""
        state = {**vars(self), **figures}
        return _rebuild(type(self), state.pop("reason"), state)

    def __reduce__(self) -> tuple:
        """Let the error cross a process boundary whole: its arguments are by keyword."""
        return _rebuild, (type(self), self.reason, dict(vars(self)))


def _rebuild(kind: type[_Kind], reason: str, state: dict) -> _Kind:
    fields = {name: state[name] for name in ("t", "dt", "steps", "nfe", "worst_sample")}
    return kind(reason, **fields)


class NonFiniteStateError(SolverError):
    """The state, or the field at the state, became NaN or infinite."""


class MaxStepsError(SolverError):
    """The step budget was spent before the end of the time span."""


class MaxSecondsError(SolverError):
    """The seconds that the solve was given were spent before the end of the time span."""


class NewtonError(SolverError):
    """An implicit step whose equations could not be solved: Newton's iteration, or a matrix."""


class StepSizeUnderflowError(SolverError):
    """The tolerance asks for steps too small to change the time in this precision."""


def is_of_the_gradient(error: SolverError) -> bool:
    """Whether it is the gradient of a solve that broke down, and not the solve.

    Example:
        >>> broken = SolverError("no more", t=0.5, dt=0.1, steps=3, nfe=12, worst_sample=0)
        >>> is_of_the_gradient(broken), is_of_the_gradient(broken.changed(reason=BACKWARD))
        (False, True)
    """
    return error.reason.startswith(BACKWARD)
