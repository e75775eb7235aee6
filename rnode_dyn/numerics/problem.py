"""What to solve: a field, a start, a time span."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

# The right-hand side as the steppers call it: time is a Python float until it meets the field.
RightHandSide = Callable[[float, Tensor], Tensor]


@runtime_checkable
class Field(Protocol):
    """A vector field: maps a 0-dim time and a state to the state's rate of change."""

    def __call__(self, t: Tensor, x: Tensor, /) -> Tensor:
        """Return dx/dt, of the shape of ``x``."""
        ...


@dataclass(frozen=True, eq=False)
class ODEProblem:
    """The initial value problem dx/dt = field(t, x), x(t0) = x0, on ``t_span = (t0, t1)``.

    Args:
        field: ``field(t, x)`` with ``t`` a 0-dim tensor and ``x`` like ``x0``; a module or any
            callable.
        x0: Start, of shape ``(batch, *event)``, floating.
        t_span: ``(t0, t1)``; ``t1 < t0`` solves backwards in time.
        parameters: Tensors to differentiate with respect to, besides ``x0``. Left out, they are
            the parameters of a field that is a module, and none for a plain callable.
        error_mask: Which parts of a sample adaptive steps control the error of: a boolean tensor
            of shape ``event``. Left out, all of it.

    Raises:
        TypeError: if ``x0`` is not a floating tensor.
        ValueError: if the time span is empty or not finite, or a shape does not fit.

    Example:
        >>> import torch
        >>> problem = ODEProblem(lambda t, x: -x, torch.ones(1, 2), (0.0, 1.0))
        >>> problem.direction
        1
    """

    field: Callable[[Tensor, Tensor], Tensor]
    x0: Tensor
    t_span: tuple[float, float]
    parameters: tuple[Tensor, ...] | None = None
    error_mask: Tensor | None = None

    def __post_init__(self) -> None:
        if not callable(self.field):
            raise TypeError(
                f"field is {self.field!r}; write a module or a function field(t, x) that returns "
                "dx/dt."
            )
        if not isinstance(self.x0, Tensor) or not self.x0.is_floating_point():
            given = self.x0.dtype if isinstance(self.x0, Tensor) else type(self.x0).__name__
            raise TypeError(
                f"x0 must be a floating tensor of shape (batch, *event), given {given}: "
                "write x0.float() or torch.as_tensor(x0, dtype=torch.float32)."
            )
        if self.x0.dim() < 1:
            raise ValueError("x0 is a scalar; it needs a batch dimension: write x0[None].")
        if self.x0.numel() == 0:
            raise ValueError(f"x0 has shape {tuple(self.x0.shape)}: there is nothing to solve for.")
        object.__setattr__(self, "t_span", _checked_span(self.t_span))
        if self.parameters is not None:
            object.__setattr__(self, "parameters", _checked_parameters(self.parameters))
        if self.error_mask is not None:
            _check_mask(self.error_mask, self.x0.shape[1:])

    @cached_property
    def differentiable(self) -> tuple[Tensor, ...]:
        """The tensors behind the field that need a gradient, each once."""
        given: Iterable[Tensor] = self.parameters or ()
        if self.parameters is None and isinstance(self.field, nn.Module):
            given = self.field.parameters()
        return tuple({id(p): p for p in given if p.requires_grad}.values())

    @property
    def needs_gradient(self) -> bool:
        """Whether anything that is known of needs a gradient, or might, behind a plain callable."""
        known = self.x0.requires_grad or bool(self.differentiable)
        return known or not self.names_its_parameters

    @property
    def direction(self) -> int:
        """+1 where time runs forward, -1 where it runs backward."""
        return 1 if self.t_span[1] > self.t_span[0] else -1

    @property
    def names_its_parameters(self) -> bool:
        """Whether all tensors behind the field are known: a module's are, a closure's are not."""
        return isinstance(self.field, nn.Module) or self.parameters is not None


def _checked_parameters(parameters: object) -> tuple[Tensor, ...]:
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise TypeError(
            "parameters takes several tensors: write (tensor,) with its comma for a single one."
        )
    listed = tuple(parameters)
    for parameter in listed:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"parameters holds {parameter!r}; write the tensors themselves.")
    return listed


def _check_mask(mask: Tensor, shape: torch.Size) -> None:
    if mask.dtype is not torch.bool or mask.shape != shape:
        raise ValueError(
            f"error_mask is {mask.dtype} of shape {tuple(mask.shape)}; write a boolean tensor of "
            f"shape {tuple(shape)}, one value for every entry of a sample."
        )
    if not bool(mask.any()):
        raise ValueError("error_mask selects nothing: some entry must take part in error control.")


def _checked_span(t_span: tuple[float, float]) -> tuple[float, float]:
    try:
        t0, t1 = (float(t) for t in t_span)
    except (TypeError, ValueError):
        raise ValueError(f"t_span must be two numbers (t0, t1), given {t_span!r}.") from None
    if not (torch.isfinite(torch.tensor([t0, t1])).all() and t0 != t1):
        raise ValueError(f"t_span must be two different finite times, given ({t0}, {t1}).")
    return t0, t1
