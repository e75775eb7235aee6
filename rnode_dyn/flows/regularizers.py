"""Penalties along the trajectory: integrands that are solved for beside the state.

Each is a mean over the event's dimensions, as in the authors' code, so that their weights carry
over from one image size to another.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rnode_dyn.flows.divergence import Linearization
from rnode_dyn.numerics.numbers import not_negative


@dataclass(frozen=True)
class Regularizer(ABC):
    """A penalty ∫ integrand dt along the trajectory.

    Args:
        weight: λ, the penalty's factor in the loss; the penalty itself is reported unweighted.
    """

    weight: float
    name: ClassVar[str]
    needs_push: ClassVar[bool] = True
    """Whether the integrand asks for :meth:`Linearization.along`, which not asking for spares."""
    needs_products: ClassVar[bool] = True
    """Whether it asks for the divergence or the Frobenius norm, which a layer spares likewise."""

    def __post_init__(self) -> None:
        weight = not_negative(type(self).__name__, "weight", self.weight)
        object.__setattr__(self, "weight", weight)

    @abstractmethod
    def integrand(self, at: Linearization) -> Tensor:
        """Return the integrand at one time and state, ``(batch,)``."""


def mean_square(x: Tensor) -> Tensor:
    """Return the mean square over the event's dimensions, ``(batch,)``."""
    return x.square().flatten(1).mean(1)


class KineticEnergy(Regularizer):
    """½ · mean f²: straight trajectories at constant speed (Finlay et al. 2020)."""

    name = "kinetic_energy"
    needs_push = False
    needs_products = False

    def integrand(self, at: Linearization) -> Tensor:
        """Return ½ · mean f²."""
        return 0.5 * mean_square(at.value)


class JacobianFrobenius(Regularizer):
    """‖∂f/∂x‖_F² over the dimension: a field that bends little (Finlay et al. 2020).

    With Hutchinson's divergence the same product serves both, as mean (εᵀ ∂f/∂x)².
    """

    name = "jacobian_frobenius"
    needs_push = False

    def integrand(self, at: Linearization) -> Tensor:
        """Return ‖∂f/∂x‖_F² / d."""
        return at.frobenius / at.x[0].numel()


class DirectionalDerivative(Regularizer):
    """½ · mean ((∂f/∂x) f)²: the field changes little along itself."""

    name = "directional_derivative"
    needs_products = False

    def integrand(self, at: Linearization) -> Tensor:
        """Return ½ · mean ((∂f/∂x) f)²."""
        return 0.5 * mean_square(at.along(dt=0.0))


class TotalDerivative(Regularizer):
    """½ · mean (∂f/∂t + (∂f/∂x) f)²: the acceleration along the trajectory."""

    name = "total_derivative"
    needs_products = False

    def integrand(self, at: Linearization) -> Tensor:
        """Return ½ · mean (∂f/∂t + (∂f/∂x) f)²."""
        return 0.5 * mean_square(at.along(dt=1.0))


def check_regularizers(regularizers: Sequence[Regularizer]) -> None:
    """Raise where a list of penalties is none, or names one twice.

    Raises:
        TypeError: if something in it, or the list itself, is of another kind.
        ValueError: if a penalty comes twice.
    """
    if isinstance(regularizers, Regularizer):
        raise TypeError(f"regularizers is {regularizers!r}; write a list: [{regularizers!r}].")
    for regularizer in regularizers:
        if not isinstance(regularizer, Regularizer):
            raise TypeError(
                f"regularizers holds {regularizer!r}; write penalties with their weights, such as "
                "[KineticEnergy(0.01), JacobianFrobenius(0.01)]."
            )
    names = [r.name for r in regularizers]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"regularizers holds {twice.pop()} twice; give it once, with one weight.")
