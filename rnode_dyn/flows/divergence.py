"""Estimators of the divergence tr ∂f/∂x, each with what it learns of the Jacobian by the way."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rnode_dyn.fields.base import jvp, value_and_vjp


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
    """

    field: Callable[[Tensor, Tensor], Tensor]
    t: Tensor
    x: Tensor
    value: Tensor
    divergence: Tensor
    frobenius: Tensor

    def along(self, dt: float) -> Tensor:
        """Return ∂f/∂t · dt + (∂f/∂x) f: the field's change along the flow, like ``x``."""
        return jvp(self.field, self.t, self.x, torch.full_like(self.t, dt), self.value)


class Divergence(ABC):
    """How to get the divergence of a field."""

    @abstractmethod
    def draw(self, x: Tensor) -> Tensor | None:
        """Draw the noise of one solve for states like ``x``, or nothing where none is needed."""

    @abstractmethod
    def linearize(
        self, field: Callable, t: Tensor, x: Tensor, noise: Tensor | None
    ) -> Linearization:
        """Evaluate the field and its divergence at ``(t, x)``."""


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
        if not isinstance(self.probes, int) or self.probes < 1:
            raise ValueError(
                f"HutchinsonDivergence: probes is {self.probes!r}; write a whole number, 1 or more."
            )

    def draw(self, x: Tensor) -> Tensor:
        """Draw the probes, ``(probes, batch, *event)``: zero mean, unit covariance."""
        noise = torch.randn((self.probes, *x.shape), dtype=x.dtype, device=x.device)
        # The sign of a Gaussian, in which zero counts as positive.
        return noise if self.noise == "gaussian" else (noise >= 0).to(x.dtype) * 2 - 1

    def linearize(
        self, field: Callable, t: Tensor, x: Tensor, noise: Tensor | None
    ) -> Linearization:
        """Evaluate the field with one vector-Jacobian product a probe."""
        probes = self.draw(x) if noise is None else noise
        products = [(probe, *value_and_vjp(field, t, x, probe)) for probe in probes]
        divergence = torch.stack([(vjp * probe).flatten(1).sum(1) for probe, _, vjp in products])
        frobenius = torch.stack([vjp.square().flatten(1).sum(1) for _, _, vjp in products])
        value = products[0][1]
        return Linearization(field, t, x, value, divergence.mean(0), frobenius.mean(0))


@dataclass(frozen=True)
class ExactDivergence(Divergence):
    """The trace and the Frobenius norm themselves, from the whole Jacobian.

    Costs as many vector-Jacobian products as a sample has entries: for low dimensions, and to
    check estimates with.
    """

    def draw(self, x: Tensor) -> None:  # nothing is random here
        """Nothing is random here."""

    def linearize(
        self, field: Callable, t: Tensor, x: Tensor, noise: Tensor | None
    ) -> Linearization:
        """Evaluate the field with one vector-Jacobian product an entry, all in one batch."""
        batch, size = len(x), x[0].numel()
        basis = torch.eye(size, dtype=x.dtype, device=x.device).repeat_interleave(batch, dim=0)
        repeated = x.repeat(size, *(1 for _ in x.shape[1:]))
        values, rows = value_and_vjp(field, t, repeated, basis.view_as(repeated))
        # Row j of block i of the first axis is ∂f_i/∂x of sample j.
        jacobian = rows.reshape(size, batch, size)
        divergence = torch.einsum("ibi->b", jacobian)
        frobenius = jacobian.square().sum((0, 2))
        return Linearization(field, t, x, values[:batch], divergence, frobenius)
