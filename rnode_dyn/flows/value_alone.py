"""A field's value without its divergence, for those who ask for no more."""

from collections.abc import Callable
from typing import NoReturn

from torch import Tensor

from rnode_dyn.fields.linearize import Push, linearize
from rnode_dyn.flows.divergence import Divergence, Linearization
from rnode_dyn.numerics.slope import check_slope


class ValueAlone(Linearization):
    """What is known of a field at one time and state, where no product was asked for."""

    def __init__(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        t: Tensor,
        x: Tensor,
        value: Tensor,
        push: Push | None,
    ) -> None:
        known = {"field": field, "t": t, "x": x, "value": value, "push": push}
        for name, given in known.items():
            object.__setattr__(self, name, given)

    def __getattr__(self, name: str) -> NoReturn:
        """Say of what is not known how to ask for it."""
        if name not in ("divergence", "frobenius"):
            raise AttributeError(name)
        raise AttributeError(
            f"the field's {name} was not asked for beforehand: write needs_products = True in "
            "the regularizer's class."
        )


class NoDivergence(Divergence):
    """No divergence at all: one evaluation of the field, and no product but the asked-for push."""

    def draw(self, x: Tensor) -> None:
        """Nothing is random here."""

    def linearize(
        self,
        field: Callable,
        t: Tensor,
        x: Tensor,
        noise: Tensor | None,
        with_push: bool = False,
    ) -> Linearization:
        """Evaluate the field once."""
        if with_push:
            at = linearize(field, t, x, with_push=True)
            return ValueAlone(field, t, x, at.value, at.push)
        value = field(t, x)
        check_slope(value, x)
        return ValueAlone(field, t, x, value, None)
