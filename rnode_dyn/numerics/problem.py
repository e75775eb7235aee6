"""What to solve: a field, a start, a time span."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rnode_dyn.numerics.calling import as_called
from rnode_dyn.numerics.numbers import as_number, rounding_of, wants_gradient
from rnode_dyn.numerics.structure import Structure, is_structured, mask_of
from rnode_dyn.numerics.transforms import is_batched

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
            callable. One that takes ``(x)`` alone, or names its second argument ``t`` or
            ``time``, is called so.
        x0: Start, of shape ``(batch, *event)``, floating or complex; or several such tensors, each
            with the batch first, in a tuple, a named tuple, a dict, nested, or any class that
            torch's pytree registry knows. The field is given the same structure, and returns it.
        t_span: ``(t0, t1)``; ``t1 < t0`` solves backwards in time. A time that is a tensor which
            wants a gradient gets one: ∂x(t1)/∂t1 = f(t1, x(t1)).
        parameters: Tensors to differentiate with respect to, besides ``x0`` and those that the
            field is found to use. Naming one that it does use changes nothing.
        error_mask: Which parts of a sample adaptive steps control the error of: a boolean tensor
            of shape ``event``, or a structure like the state's of such, or of ``True`` and
            ``False``. Left out, all of it.

    Raises:
        TypeError: if ``x0`` is not made of floating tensors, or nobody could call the field.
        ValueError: if the time span is empty or not finite, or a shape does not fit.

    Example:
        >>> import torch
        >>> problem = ODEProblem(lambda t, x: -x, torch.ones(1, 2), (0.0, 1.0))
        >>> problem.direction
        1
        >>> swing = lambda t, x: {"angle": x["speed"], "speed": -x["angle"].sin()}
        >>> start = {"angle": torch.ones(4), "speed": torch.zeros(4)}
        >>> ODEProblem(swing, start, (0.0, 1.0)).structure
        x0['angle'] (batch), x0['speed'] (batch)
    """

    field: Callable[..., Any]
    x0: Any
    t_span: tuple[Any, Any]
    parameters: tuple[Tensor, ...] | None = None
    error_mask: Any = None
    structure: Structure | None = dataclasses.field(init=False, repr=False, compare=False)
    time_rounding: float = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not callable(self.field):
            raise TypeError(
                f"field is {self.field!r}; write a module or a function field(t, x) that returns "
                "dx/dt."
            )
        structure = Structure(self.x0) if is_structured(self.x0) else None
        object.__setattr__(self, "structure", structure)
        if structure is None:
            _check_start(self.x0)
        span = _checked_span(self.t_span, structure.dtype if structure else self.x0.dtype)
        object.__setattr__(self, "time_rounding", max(map(rounding_of, self.t_span)))
        object.__setattr__(self, "t_span", span)
        if self.parameters is not None:
            object.__setattr__(self, "parameters", _checked_parameters(self.parameters))
        if self.error_mask is not None:
            self._check_error_mask()
        self.called  # noqa: B018  # a field that nobody could call is refused here

    def _check_error_mask(self) -> None:
        if self.structure is None:
            _check_mask(self.error_mask, self.x0.shape[1:])
        else:
            row = self.structure.spread("error_mask", self.error_mask, mask_of)
            _check_mask(row, row.shape)

    @cached_property
    def called(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The field as f(t, x), however it was written."""
        return as_called(self.field)

    @property
    def span(self) -> tuple[float, float]:
        """The times of ``t_span`` as numbers."""
        t0, t1 = (float(t.detach() if isinstance(t, Tensor) else t) for t in self.t_span)
        return t0, t1

    @cached_property
    def known_tensors(self) -> tuple[Tensor, ...]:
        """The tensors behind the field that can be told: those named, and a module's parameters."""
        given = list(self.parameters or ())
        if isinstance(self.field, nn.Module):
            given += self.field.parameters()
        return tuple({id(p): p for p in given}.values())

    @property
    def differentiable(self) -> tuple[Tensor, ...]:
        """Those of them that want a gradient."""
        return tuple(p for p in self.known_tensors if p.requires_grad)

    def restarted(self, x0: Any) -> "ODEProblem":
        """Return the same problem from another start like this one, which is not looked at."""
        if x0 is self.x0:
            return self
        again = copy.copy(self)
        object.__setattr__(again, "x0", x0)
        return again

    @property
    def direction(self) -> int:
        """+1 where time runs forward, -1 where it runs backward."""
        return 1 if self.span[1] > self.span[0] else -1


def _check_start(x0: Tensor) -> None:
    if not x0.is_floating_point():
        raise TypeError(
            f"x0 must be a floating tensor of shape (batch, *event), given {x0.dtype}: "
            "write x0.float() or torch.as_tensor(x0, dtype=torch.float32)."
        )
    if x0.dim() < 1:
        raise ValueError("x0 is a scalar; it needs a batch dimension: write x0[None].")
    if x0.numel() == 0:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}: there is nothing to solve for.")


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


def _check_mask(mask: Any, shape: torch.Size) -> None:
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"error_mask is a {type(mask).__name__} for a state of one tensor; write a boolean "
            f"tensor of shape {tuple(shape)}."
        )
    if mask.dtype is not torch.bool or mask.shape != shape:
        raise ValueError(
            f"error_mask is {mask.dtype} of shape {tuple(mask.shape)}; write a boolean tensor of "
            f"shape {tuple(shape)}, one value for every entry of a sample."
        )
    if not is_batched(mask) and not bool(mask.any()):
        raise ValueError("error_mask selects nothing: some entry must take part in error control.")


def _checked_span(t_span: Sequence[Any], dtype: torch.dtype) -> tuple[Any, Any]:
    """Return both times, as floats but for those that want a gradient."""
    try:
        given = tuple(t_span)
    except TypeError:
        given = ()
    times = [as_number(t) for t in given]
    if len(times) != 2 or None in times:
        raise ValueError(f"t_span must be two numbers (t0, t1), given {t_span!r}.")
    t0, t1 = (t for t in times if t is not None)
    if not (math.isfinite(t0) and math.isfinite(t1)) or t0 == t1:
        raise ValueError(f"t_span must be two different finite times, given ({t0}, {t1}).")
    most = torch.finfo(dtype).max
    if max(abs(t0), abs(t1)) > most:
        raise ValueError(
            f"t_span is ({t0}, {t1}), and the field is told the time in the state's {dtype}, which "
            f"ends at {most:.3g}: solve in torch.float64, or measure time in another unit."
        )
    return tuple(g if wants_gradient(g) else t for g, t in zip(given, (t0, t1), strict=True))  # type: ignore[return-value]
