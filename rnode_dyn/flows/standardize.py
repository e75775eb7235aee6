"""The units of a table taken off its columns, and given back: the first transform of its flow."""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from rnode_dyn.flows.result import FlowResult
from rnode_dyn.flows.transforms import Transform
from rnode_dyn.numerics.transforms import is_exporting

# From so many deviations off 0 on, float32 keeps of a value less than 16 bits of its deviation.
_FAR_OFF = 2.0**8
_TINY = 2.0**-100  # float32 ends at 2**-149, bit by bit from 2**-126 on
_HUGE = 2.0**127

_NUMBERS = ("shift", "scale", "rounding")


class Standardize(Transform):
    """y = (x − shift)/scale, value by value: a flow behind it sees data of mean 0 and deviation 1.

    Shift and scale are part of the state dict, and never trained. They are float64, whatever the
    flow is cast to, and so is the arithmetic: x may be float64 where the flow is float32, and has
    to be where float32 cannot tell values apart that lie far from 0. Standardised values have the
    flow's type; values mapped back are float32, or float64 where float32 would blur them or the
    flow has it.

    Args:
        shift: What is taken off, of a sample's shape.
        scale: What is divided by then, above 0, likewise.
        rounding: Differences from shift up to this are taken for rounding errors, and become 0;
            left out, none. For values that are constant in the data.

    Example:
        >>> import torch
        >>> units = Standardize(torch.tensor([1e6, 0.0]), torch.tensor([2.0, 0.5]))
        >>> y, log_det, _ = units(torch.tensor([[1e6 + 2, 1.0]]))
        >>> y, log_det.abs()
        (tensor([[1., 2.]]), tensor([0.]))
        >>> units.inverse(y).z
        tensor([[1.0000e+06, 1.0000e+00]], dtype=torch.float64)
    """

    shift: Tensor
    scale: Tensor
    rounding: Tensor
    _cast: Tensor

    def __init__(self, shift: Tensor, scale: Tensor, rounding: Tensor | None = None) -> None:
        super().__init__()
        rounding = torch.zeros_like(shift) if rounding is None else rounding
        _check(shift, scale, rounding)
        for name, numbers in zip(_NUMBERS, (shift, scale, rounding), strict=True):
            self.register_buffer(name, numbers.detach().to(torch.float64, copy=True))
        self._known_of: tuple | None = None
        self._wide = False
        # Has no entries, and the type that the flow is cast to.
        self.register_buffer("_cast", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> FlowResult:
        """Take the units off."""
        self.forward_shape(x.shape[1:])
        off = x - self.shift
        # Without a gradient, so that the derivative is 1/scale everywhere.
        off = off - torch.where(off.abs() <= self.rounding, off, 0.0).detach()
        y = (off / self.scale).to(self._cast.dtype)
        return FlowResult(y, -self._log_scale(y), {})

    def inverse(self, z: Tensor) -> FlowResult:
        """Give the units back."""
        x = z * self.scale + self.shift
        kind = (
            torch.float64 if self._needs_float64() else torch.promote_types(z.dtype, torch.float32)
        )
        return FlowResult(x.to(kind), self._log_scale(z), {})

    def _needs_float64(self) -> bool:
        """Whether float32 would blur values in the data's units; found out once for the numbers.

        An export, in which the numbers cannot be read, takes what was found out before it.
        """
        if is_exporting() and self._known_of is not None:
            return self._wide
        numbers = tuple((n.data_ptr(), n._version) for n in (self.shift, self.scale, self.rounding))
        if self._known_of != numbers:
            size, reach = self.shift.abs(), _FAR_OFF * self.scale
            blurred = (size > reach) & (self.rounding == 0)
            wide = blurred | (self.scale < _TINY) | (size + reach > _HUGE)
            self._known_of, self._wide = numbers, bool(wide.any())
        return self._wide

    def _log_scale(self, like: Tensor) -> Tensor:
        return self.scale.log().sum().to(like.dtype).expand(like.shape[0])

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of a standardised sample.

        Raises:
            ValueError: if it is not the shape of shift and scale.
        """
        if tuple(shape) != tuple(self.shift.shape):
            raise ValueError(
                f"a sample of shape {tuple(shape)} cannot be standardised by a shift of shape "
                f"{tuple(self.shift.shape)}: give samples of that shape, the batch first."
            )
        return tuple(shape)

    def set(self, shift: Tensor, scale: Tensor, rounding: Tensor | None = None) -> None:
        """Take other numbers from here on; arguments are those of the class."""
        rounding = torch.zeros_like(shift) if rounding is None else rounding
        _check(shift, scale, rounding)
        self.forward_shape(shift.shape)
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.rounding.copy_(rounding)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the numbers as a module is moved, and leave them float64 when it is cast."""
        exact = {name: self.get_buffer(name) for name in _NUMBERS}
        for name, numbers in exact.items():
            self._buffers[name] = numbers.float()  # which every device takes
        super()._apply(fn, recurse)
        for name, numbers in exact.items():
            self._buffers[name] = _as_exact(numbers, self.get_buffer(name))
        return self

    def extra_repr(self) -> str:
        """Show the shape."""
        return f"shape={tuple(self.shift.shape)}"


def log_scale(model: nn.Module) -> float | None:
    """Σ log scale, in nats: what standardising adds to a log-density; None where nothing does.

    Example:
        >>> import torch
        >>> log_scale(Standardize(torch.zeros(3), torch.ones(3)))
        0.0
    """
    steps = standardizing(model)
    return sum(float(step.scale.log().sum()) for step in steps) if steps else None


def standardizing(model: nn.Module) -> list[Standardize]:
    """The parts of a model that standardise samples; what standardises conditions is none.

    Example:
        >>> standardizing(torch.nn.Identity())
        []
    """
    apart = getattr(model, "preprocess_condition", None)
    others = set() if apart is None else set(apart.modules())
    return [m for m in model.modules() if isinstance(m, Standardize) and m not in others]


def _as_exact(numbers: Tensor, moved: Tensor) -> Tensor:
    """The numbers where they were moved to, in float64 if the device has it."""
    if moved.device.type == "mps":
        return moved
    return moved.double() if numbers.is_meta else numbers.to(moved.device)


def _check(shift: Tensor, scale: Tensor, rounding: Tensor) -> None:
    if not shift.shape == scale.shape == rounding.shape:
        raise ValueError(
            f"Standardize: shift has shape {tuple(shift.shape)}, scale {tuple(scale.shape)} and "
            f"rounding {tuple(rounding.shape)}; give each the shape of a sample."
        )
    if not (shift.isfinite().all() and scale.isfinite().all() and (scale > 0).all()):
        raise ValueError(
            "Standardize: shift and scale have to be finite numbers and scale above 0; write scale "
            "= 1 for values that do not vary."
        )
    if not (rounding >= 0).all():
        raise ValueError("Standardize: rounding has a number below 0; write 0 for none.")
