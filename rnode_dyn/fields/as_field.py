"""Whatever is written as f(t, x) or f(t, x, condition) as a module that the flows can call."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from rnode_dyn.numerics.at_times import Wrapped
from rnode_dyn.numerics.calling import calling_of, handed_the_time, timed_parts


class CalledField(nn.Module, Wrapped):
    """A module that is called in another way than torchdyn's f(t, x, args=None).

    Args:
        module: The module; parts of torchdyn's within it are handed the time.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calling = calling_of(module)

    @property
    def written(self) -> nn.Module:
        """The module itself, where it is called as f(t, x) all the same."""
        return self.module if self.calling.is_plain else self

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


def _names_the_time(module: nn.Module) -> bool:
    """Whether torchdyn finds a ``t`` where it looks for one; it leaves the time out otherwise."""
    try:
        return "t" in inspect.getfullargspec(module.forward).args
    except TypeError:
        return False
