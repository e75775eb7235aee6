"""The trajectory's higher derivatives as a penalty."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from rnode_dyn.flows.divergence import Linearization
from rnode_dyn.flows.regularizers import Regularizer, mean_square
from rnode_dyn.numerics.checks import check
from rnode_dyn.numerics.numbers import whole
from rnode_dyn.numerics.slope import is_same
from rnode_dyn.numerics.transforms import is_batched

Derivatives = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class TaylorDerivative(Regularizer):
    """½ · mean (dᴷx/dtᴷ)²: trajectories that a method of order K − 1 follows in long steps.

    Kelly et al., Learning differential equations that are easy to solve, NeurIPS 2020. Order 1 is
    the kinetic energy, order 2 the total derivative. Computed by nested forward mode, which takes
    ``order`` more evaluations of the field, the innermost of which is differentiated ``order`` − 1
    times.

    Args:
        weight: λ, the penalty's factor in the loss; the penalty itself is reported unweighted.
        order: K.

    Raises:
        ValueError: if ``order`` is no whole number, or while solving if the field is another at
            each evaluation.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedFlow
        >>> flow = RegularizedFlow(MLPField(2), regularizers=[TaylorDerivative(0.01, order=3)])
        >>> flow(torch.zeros(4, 2)).penalties["taylor_derivative"].shape
        torch.Size([4])
    """

    weight: float = 1.0
    order: int = 3
    name = "taylor_derivative"
    needs_push = False
    needs_products = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "order", whole("TaylorDerivative", "order", self.order))

    def integrand(self, at: Linearization) -> Tensor:
        """Return ½ · mean (dᴷx/dtᴷ)²."""
        found = along_trajectory(at.field, self.order)(at.t, at.x)
        value = at.value.detach()
        if not is_batched(value):
            # What is not finite is the solver's to say.
            check(is_same(found[0].detach(), value) | ~value.isfinite().all(), _another_field)
        return 0.5 * mean_square(found[-1])


def along_trajectory(field: Callable[[Tensor, Tensor], Tensor], order: int) -> Derivatives:
    """Return the function of (t, x) that gives dx/dt, d²x/dt², … of the trajectory there.

    Example:
        >>> towers = along_trajectory(lambda t, x: t * x, 3)
        >>> towers(torch.tensor(2.0), torch.ones(1, 1))
        (tensor([[2.]]), tensor([[5.]]), tensor([[14.]]))
    """
    if order == 1:
        return lambda t, x: (field(t, x),)
    lower = along_trajectory(field, order - 1)

    def derivatives(t: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        along = (torch.ones_like(t), field(t, x))
        known, rates = cast(tuple[Any, Any], torch.func.jvp(lower, (t, x), along))
        return (*known, rates[-1])

    return derivatives


def _another_field() -> ValueError:
    return ValueError(
        "TaylorDerivative evaluates the field several times at one state, and this one is another "
        "each time: it draws random numbers or changes a buffer. Freeze them, FrozenNoise(field), "
        "or call field.eval()."
    )
