"""How a field is called: decided once, by its signature, and never by the names of its attributes.

A field is any callable f(t, x), or f(t, x, condition) of a conditional flow. Some are written f(x),
some f(x, t) or f(x, *, t), some take torchdyn's ``args`` as well; parts of torchdyn's own, such as
``DepthCat``, are handed the time.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_ANYTHING = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_TIME = ("t", "time")
_ARGS = "args"
_CONDITION = "condition"


@dataclass(frozen=True)
class Calling:
    """How a field takes its arguments.

    Attributes:
        takes_time: Whether it takes the time at all.
        time_first: Whether the time comes before the state.
        time_name: The name that the time goes by, where it is passed by name.
        takes_args: Whether it takes torchdyn's ``args``, ``None`` here.
        optional_args: Whether it may be left out.
        takes_condition: Whether it takes a condition.
        needs_condition: Whether that may not be left out.
        condition_name: The name that it goes by; without one it comes third.
    """

    takes_time: bool = True
    time_first: bool = True
    time_name: str | None = None
    takes_args: bool = False
    optional_args: bool = True
    takes_condition: bool = False
    needs_condition: bool = False
    condition_name: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is called as f(t, x)."""
        time_first = self.takes_time and self.time_first and self.time_name is None
        return time_first and (self.optional_args or not self.takes_args)

    def call(
        self,
        field: Callable[..., Tensor],
        t: Tensor,
        x: Tensor,
        args: Any = None,
        condition: Any = None,
    ) -> Tensor:
        """Evaluate the field."""
        named: dict[str, Any] = {_ARGS: args} if self.takes_args else {}
        more = () if condition is None or self.condition_name is not None else (condition,)
        if condition is not None and self.condition_name is not None:
            named[self.condition_name] = condition
        if not self.takes_time:
            return field(x, *more, **named)
        if self.time_name is not None:
            return field(x, *more, **{self.time_name: t}, **named)
        return field(t, x, *more, **named) if self.time_first else field(x, t, *more, **named)


def calling_of(field: Callable) -> Calling:
    """Read off a field's signature how it is called.

    Raises:
        TypeError: if it takes arguments that nobody could give it.

    Example:
        >>> calling_of(lambda x, t: x).time_first, calling_of(lambda x: x).takes_time
        (False, False)
    """
    parameters = _parameters_of(field)
    if parameters is None:
        return Calling(takes_condition=True)
    args = next((p for p in parameters if p.name == _ARGS and p.kind in _POSITIONAL), None)
    taken: dict[str, Any] = {
        "takes_args": args is not None,
        "optional_args": args is None or _is_optional(args),
    }
    rest = [p for p in parameters if p is not args]
    condition = _condition_among(rest)
    if condition is not None:
        rest.remove(condition)
        taken |= _condition_calling(condition)
    positional = [p for p in rest if p.kind in _POSITIONAL]
    by_name = next((p.name for p in rest if _is_named_time(p)), None)
    _refuse_more(field, positional, [p for p in rest if p.kind is Parameter.KEYWORD_ONLY])
    if by_name is not None:
        return Calling(time_first=False, time_name=by_name, **taken)
    if any(p.kind is Parameter.VAR_POSITIONAL for p in rest) and len(positional) < 2:
        taken.setdefault("takes_condition", True)
        return Calling(**taken)
    return _positional_calling(field, positional, taken)


def _condition_among(parameters: list[Parameter]) -> Parameter | None:
    """The parameter of that name; otherwise what a field asks for third, whatever its name."""
    named = next((p for p in parameters if p.name == _CONDITION and p.kind not in _ANYTHING), None)
    third = [p for p in parameters if p.kind in _POSITIONAL][2:3]
    return named or next((p for p in third if not _is_optional(p)), None)


def _condition_calling(condition: Parameter) -> dict[str, Any]:
    by_position = condition.kind is Parameter.POSITIONAL_ONLY
    return {
        "takes_condition": True,
        "needs_condition": not _is_optional(condition),
        "condition_name": None if by_position else condition.name,
    }


def _positional_calling(
    field: Callable, positional: list[Parameter], taken: dict[str, Any]
) -> Calling:
    names = [p.name for p in positional]
    required = [p for p in positional if not _is_optional(p)]
    if not names:
        raise TypeError(f"field {_name(field)} takes no state: write a function f(t, x).")
    if names[0] not in _TIME and names[1:2] and names[1] in _TIME:
        only_positional = positional[1].kind is Parameter.POSITIONAL_ONLY
        by_name = None if only_positional else names[1]
        return Calling(time_first=False, time_name=by_name, **taken)
    if len(required) >= 2 or (len(names) >= 2 and names[0] in _TIME):
        return Calling(**taken)
    return Calling(takes_time=False, **taken)


def _refuse_more(field: Callable, positional: list[Parameter], named: list[Parameter]) -> None:
    """Raise where a field asks for more than a time, a state and a condition."""
    more = [p for p in positional[2:] if not _is_optional(p)]
    more += [p for p in named if not _is_optional(p) and p.name not in _TIME]
    if more:
        _refuse_names(field, [p.name for p in more])


def _refuse_names(field: Callable, names: list[str]) -> NoReturn:
    raise TypeError(
        f"field {_name(field)} also takes {', '.join(names)}, which no solver knows of: bind what "
        f"is fixed, functools.partial(field, {names[0]}=…), so that f(t, x) is left."
    )


def _parameters_of(field: Callable) -> list[Parameter] | None:
    """The parameters, or ``None`` where Python cannot tell them."""
    called = field.forward if isinstance(field, nn.Module) else field
    schema = getattr(called, "schema", None)
    if isinstance(schema, torch.FunctionSchema):
        return _parameters_of_traced(schema, isinstance(field, nn.Module))
    try:
        parameters = list(signature(called).parameters.values())
    except (TypeError, ValueError):
        return None
    passed_on = all(p.kind in _ANYTHING for p in parameters)
    within = list(field.children()) if isinstance(field, nn.Module) else []
    # A wrapper that takes anything asks for what the one module within it asks for.
    return _parameters_of(within[0]) if passed_on and len(within) == 1 else parameters


def _parameters_of_traced(schema: torch.FunctionSchema, is_method: bool) -> list[Parameter]:
    """The parameters of what torch.jit has made; a method's first is the module."""
    named = schema.arguments[1:] if is_method else schema.arguments
    return [
        Parameter(
            argument.name,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else Parameter.empty,
        )
        for argument in named
    ]


def _is_optional(parameter: Parameter) -> bool:
    return parameter.default is not parameter.empty


def _is_named_time(parameter: Parameter) -> bool:
    return parameter.kind is Parameter.KEYWORD_ONLY and parameter.name in _TIME


def _name(field: Callable) -> str:
    return getattr(field, "__qualname__", type(field).__name__)


def as_called(field: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the field as f(t, x); one that is written so is returned as it is.

    Raises:
        TypeError: if it takes a condition, or whatever else nobody could give it.
    """
    calling, parts = calling_of(field), timed_parts(field)
    if calling.needs_condition:
        _refuse_names(field, [calling.condition_name or _CONDITION])
    if calling.is_plain and not parts:
        return field

    def called(t: Tensor, x: Tensor) -> Tensor:
        with handed_the_time(parts, t):
            return calling.call(field, t, x)

    return called


def timed_parts(field: Callable) -> list[Any]:
    """The parts of a module that torchdyn hands the time to."""
    layers = sys.modules.get("torchdyn.nn.node_layers")
    # Whoever holds such a part has imported torchdyn, which solving alone can do without.
    if layers is None or not isinstance(field, nn.Module):
        return []
    return [part for part in field.modules() if isinstance(part, layers.DepthCat)]


@contextmanager
def handed_the_time(parts: list[Any], t: Tensor) -> Iterator[None]:
    """Let torchdyn's parts know the time; one that is differentiated must not outlive that."""
    for part in parts:
        part.t = t
    try:
        yield
    finally:
        for part in parts:
            part.t = None
