"""Whatever is written as f(t, x) or f(t, x, condition) as a module that the flows can call."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from rnode_dyn.numerics.calling import calling_of, handed_the_time, timed_parts


class CalledField(nn.Module):
    """A module that is called in another way than torchdyn's f(t, x, args=None).

    Args:
        module: The module; parts of torchdyn's within it are handed the time.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calling = calling_of(module)

    def forward(self, t: Tensor, x: Tensor, condition: Any = None, args: Any = None) -> Tensor:
        """Evaluate the field."""
        with handed_the_time(timed_parts(self.module), t):
            return self.calling.call(self.module, t, x, args, condition)


class FunctionField(nn.Module):
    """A function as a field; the module that a method or a partial is bound to trains with it.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.calling = calling_of(function)
        self.owners = nn.ModuleList(_owners(function))

    def forward(self, t: Tensor, x: Tensor, condition: Any = None, args: Any = None) -> Tensor:
        """Evaluate the field."""
        with handed_the_time(timed_parts(self.owners), t):
            return self.calling.call(self.function, t, x, args, condition)


def _owners(function: Callable) -> list[nn.Module]:
    """The modules that a partial or a method is bound to."""
    if isinstance(function, functools.partial):
        bound = [function.func, *function.args, *function.keywords.values()]
        within = [] if isinstance(function.func, nn.Module) else _owners(function.func)
        return [*(part for part in bound if isinstance(part, nn.Module)), *within]
    owner = getattr(function, "__self__", None)
    return [owner] if isinstance(owner, nn.Module) else []


def as_field(given: Callable) -> nn.Module:
    """Return ``given`` as a module that torchdyn and the flows call as ``f(t, x, args=…)``.

    Where it takes a condition, that is passed by the name ``condition``.

    Raises:
        TypeError: if it is nothing that could be called so.
    """
    if not isinstance(given, nn.Module):
        if not callable(given):
            raise TypeError(
                f"field is a {type(given).__name__}; write a module or a function f(t, x)."
            )
        return FunctionField(given)
    calling = calling_of(given)
    is_torchdyns = calling.is_plain and calling.takes_args and not timed_parts(given)
    if calling.takes_condition and calling.condition_name != "condition":
        return CalledField(given)
    return given if is_torchdyns and _names_the_time(given) else CalledField(given)


def as_written(field: Callable) -> Callable:
    """The field without what we put around it, where that is called in the same way.

    Example:
        >>> as_written(as_field(nn.Identity()))
        CalledField(
          (module): Identity()
        )
    """
    return field.module if isinstance(field, CalledField) and field.calling.is_plain else field


def says_of_forward(field: Callable, name: str) -> bool:
    """Whether a field's class says something of its own ``forward``, and means it.

    A subclass that overrides ``forward`` inherits the words of its parent, which are not about it.

    Args:
        field: The field.
        name: An attribute of its class: a word that counts where it is true, or a method.
    """
    written = as_written(field)
    if "forward" in getattr(written, "__dict__", {}) or getattr(written, "_forward_hooks", None):
        return False
    lineage = inspect.getmro(type(written))
    says = next((i for i, kind in enumerate(lineage) if name in vars(kind)), None)
    forward = next((i for i, kind in enumerate(lineage) if "forward" in vars(kind)), None)
    return (
        says is not None and (forward is None or says <= forward) and bool(getattr(written, name))
    )


def _names_the_time(module: nn.Module) -> bool:
    """Whether torchdyn finds a ``t`` where it looks for one; it leaves the time out otherwise."""
    try:
        return "t" in inspect.getfullargspec(module.forward).args
    except TypeError:
        return False
