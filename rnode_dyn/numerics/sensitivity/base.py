"""How to differentiate through a solve: what every sensitivity does."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepping.integrator import Integrator


class Sensitivity(ABC):
    """How to differentiate through a solve."""

    differentiates_steps: ClassVar[bool] = False
    """Whether the gradient passes through each step that the algorithm made, as it was made."""

    def check(self, algorithm_parameters: Sequence[Tensor]) -> None:  # noqa: B027  # most can
        """Raise ``ValueError`` where an algorithm with these parameters cannot be used."""

    def check_algorithm(self, algorithm: Algorithm) -> None:  # noqa: B027  # most take any
        """Raise ``ValueError`` where an algorithm cannot be used, whatever its parameters."""

    def check_by_sample(self) -> None:
        """Raise ``ValueError`` where it cannot differentiate steps that each sample takes alone."""
        raise ValueError(
            f"{type(self).__name__} steps the whole batch together, and "
            "AdaptiveStep(per_sample=True) lets every sample step by itself: take "
            "DiscreteAdjoint() or CheckpointedAdjoint(), or drop per_sample."
        )

    @abstractmethod
    def integrate(
        self, problem: ODEProblem, integrator: Integrator, times: Sequence[float], stats: SolveStats
    ) -> Tensor:
        """Return the states at ``times``, ``(len(times), batch, *event)``, with their gradient.

        Args:
            problem: What to solve.
            integrator: How to step, and how far.
            times: When the state is wanted.
            stats: Where evaluations and steps are counted, the gradient's too.
        """
