"""The device's tensors: a CPU tensor in a wrapper that says that it is on ``accel:0``."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

from tests.accelerator.readings import note_reading
from tests.accelerator.rules import reads, refuse_foreign_generator, refuse_mixture
from tests.accelerator.stream import drawing_on_the_device

NAME = "accel"
_ATEN = torch.ops.aten


class AccelTensor(Tensor):
    """A tensor of the device; every operation on it comes by ``__torch_dispatch__``.

    Args:
        inner: The values.
    """

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "AccelTensor":
        """Wrap a CPU tensor; the two share their values."""
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device(NAME, 0),
        )
        wrapper.inner = inner
        return wrapper

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Carry out an operation on the values."""
        kwargs = kwargs or {}
        refuse_mixture(func, args, kwargs)
        device = _device_of_result(func, args, kwargs)
        if reads(func, args) or device.type == "cpu":
            note_reading(func.overloadpacket.__name__)
        return run(func, args, kwargs, device)

    def tolist(self) -> Any:
        """Return the values as numbers; torch itself does so for its own tensors only."""
        note_reading("tolist")
        return self.inner.tolist()

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Be saved as tensors of other devices are, so that a checkpoint can be read anywhere."""
        given = (self.detach().cpu(), self.dtype, str(self.device), self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, given

    def __repr__(self, *, tensor_contents: None = None) -> str:
        return f"AccelTensor({self.inner})"


def run(func: Any, args: tuple, kwargs: dict, device: torch.device) -> Any:
    """Call an operation on the values, and wrap what it returns."""
    given = {name: _unwrapped(value) for name, value in kwargs.items()}
    if "device" in given and device.type == NAME:
        given["device"] = torch.device("cpu")
    values = [_unwrapped(value) for value in args]
    if torch.Tag.nondeterministic_seeded in func.tags and device.type == NAME:
        refuse_foreign_generator(args, kwargs)
        with drawing_on_the_device():
            result = func(*values, **given)
    else:
        result = func(*values, **given)
    written = _written_arguments(func)
    if written:
        return _themselves(func, written, args, kwargs, result)
    return _wrapped(result) if device.type == NAME else result


def _device_of_result(func: Any, args: tuple, kwargs: dict) -> torch.device:
    if func is _ATEN.copy_.default:
        return args[0].device
    given = kwargs.get("device")
    return torch.device(NAME, 0) if given is None else torch.device(given)


def _unwrapped(given: Any) -> Any:
    if isinstance(given, AccelTensor):
        return given.inner
    if isinstance(given, list | tuple):
        return [_unwrapped(value) for value in given]
    return given


def _wrapped(result: Any) -> Any:
    if isinstance(result, Tensor):
        return AccelTensor(result)
    if isinstance(result, list | tuple):
        return type(result)(_wrapped(value) for value in result)
    return result


@cache
def _written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """Position and name of the arguments that an operation writes to and returns."""
    schema = func._schema
    returned = {
        name
        for r in schema.returns
        if r.alias_info is not None and r.alias_info.is_write
        for name in r.alias_info.before_set
    }
    return tuple(
        (position, argument.name)
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and returned & set(argument.alias_info.before_set)
    )


def _themselves(
    func: Any, written: tuple[tuple[int, str], ...], args: tuple, kwargs: dict, result: Any
) -> Any:
    """What was written to is returned as it came: the wrapper, and not another around its values.

    Raises:
        NotImplementedError: if the operation has changed a shape otherwise than as a view does.
    """
    if torch.Tag.inplace_view in func.tags:  # the wrapper takes on the shape of its values
        with no_dispatch():
            func(*args, **kwargs)
    found = [args[k] if k < len(args) else kwargs[name] for k, name in written]
    for tensor in found:
        if isinstance(tensor, AccelTensor) and tensor.shape != tensor.inner.shape:
            raise NotImplementedError(f"{func} changes a shape in place.")
    return found[0] if len(found) == 1 else type(result)(found)
