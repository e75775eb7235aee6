"""When a solve ends: at a number, a tensor that trains, or a time drawn anew."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from rnode_dyn.flows.share import drawn_fractions
from rnode_dyn.numerics.numbers import as_number, positive, wants_gradient


@dataclass(frozen=True)
class Uniform:
    """An end time drawn anew for every forward pass in training (STEER, Ghosh et al. 2020).

    The samples of a batch have it in common. Evaluation and the way back end, or begin, at its
    mean.

    Args:
        low: The earliest end.
        high: The latest.
        drawn: An end drawn beforehand, to use instead of new ones.

    Raises:
        ValueError: if an end is not positive, or ``high`` is not above ``low``.

    Example:
        >>> import torch
        >>> end = Uniform(0.75, 1.25)
        >>> end.mean, 0.75 <= end.draw(torch.zeros(2, 3)) <= 1.25
        (1.0, True)
    """

    low: float
    high: float
    drawn: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, positive("Uniform", name, getattr(self, name)))
        if not self.low < self.high:
            raise ValueError(
                f"Uniform: high is {self.high} and low is {self.low}; write the earlier end first, "
                "such as Uniform(0.75, 1.25)."
            )

    @property
    def mean(self) -> float:
        """The end in the mean."""
        return (self.low + self.high) / 2

    def draw(self, like: Tensor) -> float:
        """Draw the end of one solve of states like these, the same in all parts of a step."""
        if self.drawn is not None:
            return self.drawn
        return self.low + (self.high - self.low) * drawn_fractions(like, 1).item()

    def drawn_once(self, like: Tensor) -> "Uniform":
        """Return the same with the end of one solve, for every solve to come."""
        return replace(self, drawn=self.draw(like))


EndTime = float | Tensor | Uniform


def checked_end(end_time: EndTime) -> EndTime:
    """Return an end time, as a float but for those that want a gradient or are drawn.

    Raises:
        ValueError: if it is no positive number.
    """
    if isinstance(end_time, Uniform):
        return end_time
    number = as_number(end_time)
    if number is None or not 0 < number < float("inf"):
        raise ValueError(f"end_time is {end_time!r}; write a positive number, such as 1.0.")
    return end_time if wants_gradient(end_time) else number


def fixed_end(end: EndTime) -> float | Tensor:
    """Return the end of a solve that draws none."""
    return end.mean if isinstance(end, Uniform) else end


def next_end(end: EndTime, like: Tensor, training: bool) -> float | Tensor:
    """Return the end of the next forward solve of states like these."""
    return end.draw(like) if isinstance(end, Uniform) and training else fixed_end(end)


def as_float(end: EndTime) -> float:
    """Return an end time as a number."""
    fixed = fixed_end(end)
    return float(fixed.detach()) if isinstance(fixed, Tensor) else fixed
