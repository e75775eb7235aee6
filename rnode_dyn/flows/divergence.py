"""Estimators of the divergence tr ∂f/∂x, each with what it learns of the Jacobian by the way."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rnode_dyn.fields.linearize import Push, value_and_jacobian, value_and_products
from rnode_dyn.numerics.numbers import whole


@dataclass(frozen=True)
class Linearization:
    """What is known of a field at one time and state.

    Attributes:
        field: The field.
        t: Time, 0-dim.
        x: State, ``(batch, *event)``.
        value: f(t, x), like ``x``.
        divergence: tr ∂f/∂x or its estimate, ``(batch,)``.
        frobenius: ‖∂f/∂x‖_F² or its estimate, ``(batch,)``.
        push: Takes (dt, dx) to ∂f/∂t · dt + ∂f/∂x · dx, where a regularizer needs it.
    """

    field: Callable[[Tensor, Tensor], Tensor]
    t: Tensor
    x: Tensor
    value: Tensor
    divergence: Tensor
    frobenius: Tensor
    push: Push | None = None

    def along(self, dt: float) -> Tensor:
        """Return ∂f/∂t · dt + (∂f/∂x) f: the field's change along the flow, like ``x``."""
        if self.push is None:
            raise RuntimeError(
                "the field's change along the flow was not asked for beforehand: write "
                "needs_push = True in the regularizer's class."
            )
        return self.push(torch.full_like(self.t, dt) if dt else None, self.value)


class Divergence(ABC):
    """How to get the divergence of a field."""

    @abstractmethod
    def draw(self, x: Tensor) -> Tensor | None:
        """Draw the noise of one solve for states like ``x``, or nothing where none is needed."""

    @abstractmethod
    def linearize(
        self,
        field: Callable,
        t: Tensor,
        x: Tensor,
        noise: Tensor | None,
        with_push: bool = False,
    ) -> Linearization:
        """Evaluate the field and its divergence at ``(t, x)``.

        Args:
            field: f(t, x).
            t: Time, 0-dim.
            x: State, ``(batch, *event)``.
            noise: What ``draw`` drew for this solve.
            with_push: Whether :meth:`Linearization.along` will be asked for.
        """


@dataclass(frozen=True)
class HutchinsonDivergence(Divergence):
    """Hutchinson's estimate: E[εᵀ (∂f/∂x) ε] = tr ∂f/∂x, and E‖εᵀ ∂f/∂x‖² = ‖∂f/∂x‖_F².

    The noise is drawn once for a solve and stays the same at each of its evaluations; one
    vector-Jacobian product a probe gives both estimates (Hutchinson 1990; Grathwohl et al., FFJORD,
    ICLR 2019; Finlay et al. 2020).

    Args:
        noise: ``"gaussian"`` or ``"rademacher"``; the latter has the smaller variance.
        probes: Probes to average over.

    Example:
        >>> import torch
        >>> HutchinsonDivergence("rademacher").draw(torch.zeros(2, 3)).abs()
        tensor([[[1., 1., 1.],
                 [1., 1., 1.]]])
    """

    noise: Literal["gaussian", "rademacher"] = "gaussian"
    probes: int = 1

    def __post_init__(self) -> None:
        if self.noise not in ("gaussian", "rademacher"):
            raise ValueError(
                f'HutchinsonDivergence: noise is {self.noise!r}; write "gaussian" or "rademacher".'
            )
        object.__setattr__(self, "probes", whole("HutchinsonDivergence", "probes", self.probes))

    def draw(self, x: Tensor) -> Tensor:
        """Draw the probes, ``(probes, batch, *event)``: zero mean, unit covariance."""
        noise = torch.randn((self.probes, *x.shape), dtype=x.dtype, device=x.device)
        # The sign of a Gaussian, in which zero counts as positive.
        return noise if self.noise == "gaussian" else (noise >= 0).to(x.dtype) * 2 - 1

    def linearize(
        self,
        field: Callable,
        t: Tensor,
        x: Tensor,
        noise: Tensor | None,
        with_push: bool = False,
    ) -> Linearization:
        """Evaluate the field once, with one vector-Jacobian product a probe."""
        probes = self.draw(x) if noise is None else noise
        value, products, push = value_and_products(field, t, x, probes, with_push)
        divergence = (products * probes).flatten(2).sum(2).mean(0)
        frobenius = products.square().flatten(2).sum(2).mean(0)
        return Linearization(field, t, x, value, divergence, frobenius, push)


@dataclass(frozen=True)
class ExactDivergence(Divergence):
    """The trace and the Frobenius norm themselves, from the whole Jacobian.

    Costs as many vector-Jacobian products as a sample has entries, of one evaluation of the field:
    for low dimensions, and to check estimates with.
    """

    def draw(self, x: Tensor) -> None:  # nothing is random here
        """Nothing is random here."""

    def linearize(
        self,
        field: Callable,
        t: Tensor,
        x: Tensor,
        noise: Tensor | None,
        with_push: bool = False,
    ) -> Linearization:
        """Evaluate the field once, with one vector-Jacobian product an entry, all together."""
        # Row i of the first axis is the gradient of f_i of every sample.
        value, jacobian, push = value_and_jacobian(field, t, x, with_push)
        divergence = torch.einsum("ibi->b", jacobian)
        frobenius = jacobian.square().sum((0, 2))
        return Linearization(field, t, x, value, divergence, frobenius, push)
