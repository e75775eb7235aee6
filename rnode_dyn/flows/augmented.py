"""The dynamics of a flow: the state, its log-determinant and the penalties, as one field."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, ClassVar

import torch
from torch import Tensor

from rnode_dyn.fields.at_times import taking_times
from rnode_dyn.fields.derivatives import refuse_once_differentiable
from rnode_dyn.fields.own_product import FieldWithProduct
from rnode_dyn.flows.divergence import Divergence, Linearization
from rnode_dyn.flows.regularizers import Regularizer
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.slope import blame_arguments
from rnode_dyn.numerics.transforms import within_transform


class AugmentedField:
    """d/dt of (log-determinant, penalties…, state), a row a sample.

    Args:
        field: f(t, x) on states of shape ``(batch, *event)``.
        event_shape: Shape of one sample.
        divergence: How to get tr ∂f/∂x.
        noise: The noise of this solve, or ``None``.
        regularizers: Whose integrands to add.
        direction: −1 where time runs backward: penalties count up all the same.
    """

    takes_times = True
    has_log_det: ClassVar[bool] = True

    def __init__(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        event_shape: Sequence[int],
        divergence: Divergence,
        noise: Tensor | None,
        regularizers: Sequence[Regularizer],
        direction: int,
    ) -> None:
        self.field, self.event_shape = field, tuple(event_shape)
        self.divergence, self.noise = divergence, noise
        self.regularizers, self.direction = tuple(regularizers), direction
        needs_push = any(r.needs_push for r in self.regularizers)
        self.looked = False
        self.asked: dict[str, Any] = {"with_push": True} if needs_push else {}

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """Return dy/dt for ``y`` (batch, 1 + penalties + dimension)."""
        x = y[:, self.channels :].reshape(-1, *self.event_shape)
        at = self._linearize(t, x)
        log_det = [at.divergence] if self.has_log_det else []
        penalties = [self.direction * r.integrand(at) for r in self.regularizers]
        extra = [rate[:, None] for rate in (*log_det, *penalties)]
        return torch.cat([*extra, at.value.flatten(1)], dim=1)

    def _linearize(self, t: Tensor, x: Tensor) -> Linearization:
        try:
            field = taking_times(self.field) if t.dim() else self.field
            at = self.divergence.linearize(field, t, x, self.noise, **self.asked)
        except (SolverError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, TypeError) as error:
            # Said here of the state itself: the solver knows the whole row.
            blame_arguments(error, x, ())
        if not self.looked and at.value.requires_grad and not within_transform():
            # Once a solve: what a field is made of does not change on the way.
            self.looked = True
            if not isinstance(self.field, FieldWithProduct):
                refuse_once_differentiable(at.value, x)
        return at

    def of_samples(self, samples: Tensor) -> "AugmentedField":
        """Return the dynamics of some samples of the batch, with their noise."""
        part = copy(self)
        part.noise = None if self.noise is None else self.noise.index_select(1, samples)
        offered = getattr(self.field, "of_samples", None)
        part.field = self.field if offered is None else offered(samples)
        return part

    @property
    def channels(self) -> int:
        """How many entries stand before the state."""
        return self.has_log_det + len(self.regularizers)

    def without_penalties(self) -> "AugmentedField":
        """The same of the log-determinant and the state alone."""
        alone = copy(self)
        alone.regularizers, alone.asked = (), {}
        return alone

    def error_mask(self, y: Tensor) -> Tensor:
        """Which entries take part in step-size control: all but the penalties."""
        mask = torch.ones(y.shape[1:], dtype=torch.bool)
        mask[self.has_log_det : self.channels] = False
        return mask
