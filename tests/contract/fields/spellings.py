"""The ways to write down a field: functions, signatures, and what attributes are called."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.contract.fields.case import Case, Made, Plain, leaf, of_module, randomized, start


def bend(t: Tensor, x: Tensor, mix: Tensor, shift: Tensor) -> Tensor:
    """Return what most fields here compute: nonlinear in the state, explicit in time."""
    return torch.tanh(x @ mix + torch.sin(2 * t) * shift)


def function(t: Tensor, x: Tensor) -> Tensor:
    return torch.sin(x.flip(1) + t) - 0.3 * x


class Bend(nn.Module):
    """The parameters of ``bend``; subclasses say how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.shift = nn.Parameter(torch.empty(2, 2)), nn.Parameter(torch.empty(2))
        randomized(self)

    def at(self, t: Tensor, x: Tensor) -> Tensor:
        return bend(t, x, self.mix, self.shift)


class TimeFirst(Bend):
    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.at(t, x)


class TimeLast(Bend):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.at(t, x)


class TimeByName(Bend):
    def forward(self, x: Tensor, *, t: Tensor) -> Tensor:
        return self.at(t, x)


class StateOnly(Bend):
    def forward(self, x: Tensor) -> Tensor:
        return bend(x.new_tensor(0.3), x, self.mix, self.shift)


class OptionalArgs(Bend):
    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
        return self.at(t, x)


class RequiredArgs(Bend):
    def forward(self, t: Tensor, x: Tensor, args: Any) -> Tensor:
        return self.at(t, x)


class OtherNames(Bend):
    def forward(self, time: Tensor, state: Tensor, args: Any = None) -> Tensor:
        return self.at(time, state)


class MoreArgs(Bend):
    def forward(self, t: Tensor, x: Tensor, *args: Any) -> Tensor:
        return self.at(t, x)


class BufferT(TimeFirst):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("t", torch.tensor([0.4, -0.6], dtype=torch.float64))

    def at(self, t: Tensor, x: Tensor) -> Tensor:
        return super().at(t, x) + self.t * x


class NumberT(TimeFirst):
    def __init__(self) -> None:
        super().__init__()
        self.t = 0.4

    def at(self, t: Tensor, x: Tensor) -> Tensor:
        return super().at(t, x) + self.t * x


class ParameterT(TimeFirst):
    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.tensor([0.4, -0.6], dtype=torch.float64))

    def at(self, t: Tensor, x: Tensor) -> Tensor:
        return super().at(t, x) + self.t * x


class SubmoduleT(TimeFirst):
    def __init__(self) -> None:
        super().__init__()
        self.t = randomized(nn.Linear(2, 2))

    def at(self, t: Tensor, x: Tensor) -> Tensor:
        return super().at(t, x) + self.t(x)


class Callables:
    """An object that is called, and one of whose methods is."""

    def __init__(self) -> None:
        self.mix, self.shift = leaf(2, 2), leaf(2, seed=3)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return bend(t, x, self.mix, self.shift)

    def method(self, t: Tensor, x: Tensor) -> Tensor:
        return self(t, x)


def _plainly(written: Callable[..., Tensor], plain: Plain) -> Callable[[], Made]:
    return lambda: Made(written, plain, start())


def _module(kind: Callable[[], Bend]) -> Callable[[], Made]:
    def make() -> Made:
        module = kind()
        plain = StateOnly.forward if isinstance(module, StateOnly) else None
        at = module.at if plain is None else lambda t, x: plain(module, x)
        return of_module(module, at)

    return make


def _object(method: bool) -> Made:
    made = Callables()
    field = made.method if method else made
    return Made(field, made, start(), {"mix": made.mix, "shift": made.shift})


def _partial() -> Made:
    mix, shift = leaf(2, 2), leaf(2, seed=3)
    field = functools.partial(bend, mix=mix, shift=shift)
    return Made(field, lambda t, x: bend(t, x, mix, shift), start(), {"mix": mix, "shift": shift})


def _bound_forward() -> Made:
    module = TimeFirst()
    return Made(module.forward, module.at, start(), dict(module.named_parameters()), module)


SPELLINGS = (
    Case("function `f(t, x)`", _plainly(function, function)),
    Case("function `f(x)`", _plainly(lambda x: torch.sin(x), lambda t, x: torch.sin(x))),
    Case("function `f(x, t)`", _plainly(lambda x, t: function(t, x), function)),
    Case("function `f(x, *, t)`", _plainly(lambda x, *, t: function(t, x), function)),
    Case("callable object", lambda: _object(False)),
    Case("bound method of an object", lambda: _object(True)),
    Case("bound method of a module", _bound_forward),
    Case("`functools.partial`", _partial),
    Case("module `f(t, x)`", _module(TimeFirst)),
    Case("module `f(x)`", _module(StateOnly)),
    Case("module `f(x, t)`", _module(TimeLast)),
    Case("module `f(x, *, t)`", _module(TimeByName)),
    Case("module `f(t, x, args=None)`", _module(OptionalArgs)),
    Case("module `f(t, x, args)`", _module(RequiredArgs)),
    Case("module `f(time, state, args=None)`", _module(OtherNames)),
    Case("module `f(t, x, *args)`", _module(MoreArgs)),
    Case("a buffer named `t`", _module(BufferT)),
    Case("a number named `t`", _module(NumberT)),
    Case("a parameter named `t`", _module(ParameterT)),
    Case("a submodule named `t`", _module(SubmoduleT)),
)
