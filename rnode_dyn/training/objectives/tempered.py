"""A log-density that is flat to begin with, and itself in the end: a schedule for modes."""

import math
from dataclasses import dataclass

from torch import Tensor

from rnode_dyn.numerics.numbers import as_number, positive, whole
from rnode_dyn.training.objectives.energy import Energy, LogDensity


@dataclass(frozen=True)
class Tempered:
    """An energy whose temperature falls from a large one to 1 while the flow trains.

    The reverse Kullback-Leibler divergence hardly sees a mode in which the flow has no samples. At
    a high temperature the modes run into each other; cooled slowly enough, the flow keeps those it
    has found (annealing; Neal, Annealed importance sampling, 2001). Nothing is counted in here:
    the training says how far it is.

    Args:
        log_density: As for :class:`Energy`.
        hottest: The temperature at the start, 1 or more.
        steps: After so many steps it is 1, and stays so.
        event_shape: As for :class:`Energy`.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedFlow
        >>> tempered = Tempered(lambda x: -50 * x.square().sum(1), hottest=100.0, steps=200)
        >>> [round(tempered.temperature(step), 4) for step in (0, 100, 200, 300)]
        [100.0, 10.0, 1.0, 1.0]
        >>> tempered.at(0).loss(RegularizedFlow(MLPField(2)), 64).value.shape
        torch.Size([])
    """

    log_density: LogDensity
    hottest: float
    steps: int
    event_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        Energy(self.log_density)  # refuses what is no function
        hottest = positive("Tempered", "hottest", self.hottest)
        if hottest < 1:
            raise ValueError(
                f"Tempered: hottest is {hottest:g}, colder than the density: write 1 or more."
            )
        object.__setattr__(self, "hottest", hottest)
        object.__setattr__(self, "steps", whole("Tempered", "steps", self.steps))

    def temperature(self, step: int) -> float:
        """Return the temperature at a step, counted from 0; its logarithm falls evenly."""
        number = None if isinstance(step, Tensor) else as_number(step)
        if number is None or not 0 <= number < math.inf:
            raise ValueError(f"step is {step!r}; write how many steps have been made, from 0 on.")
        left = max(0.0, 1.0 - number / self.steps)
        return self.hottest**left

    def at(self, step: int) -> Energy:
        """Return the objective of a step, counted from 0."""
        return Energy(self.log_density, self.temperature(step), self.event_shape)
