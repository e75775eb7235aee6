"""What makes the steps of a method in its own way, and is that method in all else."""

from typing import Generic, TypeVar

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import RightHandSide

Method = TypeVar("Method", bound=Algorithm)


class OfMethod(Algorithm, Generic[Method]):
    """Makes the steps of a method in its own way."""

    def __init__(self, method: Method) -> None:
        self.method, self.order = method, method.order

    @property
    def name(self) -> str:
        """That of the method."""
        return self.method.name

    @property
    def embedded_order(self) -> int | None:
        """That of the method."""
        return self.method.embedded_order

    @property
    def interpolation_order(self) -> int:
        """That of the method."""
        return self.method.interpolation_order

    @property
    def is_implicit(self) -> bool:
        """Whether the method's steps solve equations."""
        return self.method.is_implicit

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State at a time within a step, by the method."""
        return self.method.interpolate(rhs, step, t)
