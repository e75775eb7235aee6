"""What methods for stiff problems share: the matrix W = 1/(γ dt) − ∂f/∂x of each sample."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import UnitTime
from rnode_dyn.numerics.algorithms.dense_polynomial import PolynomialDense
from rnode_dyn.numerics.jacobian import Linearization
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.transforms import is_batched


class ImplicitAlgorithm(PolynomialDense):
    """A method whose steps solve linear systems; two instances of one method are equal."""

    @property
    def is_implicit(self) -> bool:
        """Whether a step solves equations, with the field's Jacobian."""
        return True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


@runtime_checkable
class Linearizable(Protocol):
    """A field with its derivatives, for all samples at one time or each in a time of its own."""

    def __call__(self, t: float, x: Tensor, /) -> Tensor:
        """Return dx/dt."""
        ...

    def linearize(self, t: float, x: Tensor) -> Linearization:
        """Return its derivatives."""
        ...

    def count(self, name: str) -> None:
        """Count one more of something in the forward solve."""
        ...


def counted(rhs: RightHandSide | UnitTime) -> Linearizable:
    """Return what is stepped as the field that it must be, with derivatives."""
    if not isinstance(rhs, Linearizable):
        raise TypeError(
            "a method for stiff problems needs the field's Jacobian, and is given a function of a "
            "time and a state alone: call solve(problem, solver)."
        )
    return rhs


@dataclass(frozen=True)
class Shifted:
    """The matrix s − ∂f/∂x of each sample, factored.

    Args:
        factors: Its LU factors, ``(batch, n, n)``.
        pivots: Their pivots.
        singular: Which samples have none, ``(batch,)``.
        field: Where solves are counted.
    """

    factors: Tensor
    pivots: Tensor
    singular: Tensor
    field: Linearizable

    @classmethod
    def of(cls, field: Linearizable, at: Linearization, shift: float) -> "Shifted":
        """Factor the matrix at a point where the field has been linearized."""
        diagonal = torch.eye(at.by_state.shape[-1], dtype=at.by_state.dtype, device=at[0].device)
        factors, pivots, info = torch.linalg.lu_factor_ex(shift * diagonal - at.by_state)
        return cls(factors, pivots, info > 0, field)

    def solve(self, right: Tensor) -> Tensor:
        """Solve for right-hand sides of any shape ``(batch, *event)``."""
        self.field.count("nsolve")
        flat = right.reshape(len(right), -1, 1)
        return torch.linalg.lu_solve(self.factors, self.pivots, flat).reshape(right.shape)

    @property
    def failure(self) -> str | None:
        """What to say where a sample's matrix is singular."""
        if is_batched(self.singular) or not bool(self.singular.any()):
            return None
        return "the matrix of a linear system, 1/(γ dt) − ∂f/∂x, is singular or not finite"


def void_where(failed: Tensor, x: Tensor) -> Tensor:
    """Put NaN in place of the samples that failed."""
    return torch.where(failed.reshape(-1, *[1] * (x.dim() - 1)), torch.nan, x)
