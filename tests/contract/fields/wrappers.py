"""Fields within other things: averaged, parallel, traced, compiled; ours, changed from outside."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel
from torchdyn.nn import DepthCat

from rnode_dyn import ConvField, MLPField, UNetField
from tests.contract.fields.case import CHANGING, Case, Made, of_module, randomized, start
from tests.contract.fields.spellings import TimeFirst, TimeLast

IMAGE = (1, 2, 2)


class Parallel(nn.Module):
    """Called as DataParallel is: it passes on whatever it is given."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Tensor:
        return self.module(*inputs, **kwargs)


class Joined(nn.Module):
    """Takes (x, t), joined as DepthCat joins them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, joined: Tensor) -> Tensor:
        return torch.tanh(self.linear(joined))


class Faster(MLPField):
    """Overrides forward, and inherits a product that knows nothing of it."""

    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
        return 0.5 * super().forward(t, x, args) - x.sin()


class FasterConv(ConvField):
    def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
        return 0.5 * super().forward(t, x, args) - x.sin()


class RightProduct(TimeFirst):
    def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        value = self.at(t, x)
        return value, (v * (1 - value.square())) @ self.mix.T


class WrongProduct(TimeFirst):
    def value_and_vjp(self, t: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.at(t, x), v @ self.mix.T


class Low(nn.Module):
    """A weight plus an update of low rank."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(torch.empty(1, 8)), nn.Parameter(torch.empty(8, 1))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down)[:, : weight.shape[1]]


def mlp() -> MLPField:
    """Return a field of ours with two hidden layers."""
    field = MLPField(2, hidden=(8, 8), activation="tanh")
    randomized(field)
    return field


def _double(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return 2 * output


def _shifted(module: nn.Module, inputs: Any) -> Any:
    return (inputs[0], inputs[1] + 0.3, *inputs[2:])


def _hooked(before: bool, inner: bool) -> Made:
    field = mlp()
    part = field.layers[0] if inner else field
    if before:
        part.register_forward_pre_hook(_shifted)
    else:
        part.register_forward_hook(_double)
    return of_module(field)


def _replaced_forward() -> Made:
    field = mlp()
    inherited = field.forward
    field.forward = lambda t, x, args=None: inherited(t, x).sin()  # type: ignore[method-assign]
    return of_module(field)


def _normed(norm: Callable[..., Any], train: bool = True) -> Made:
    field = mlp().train(train)
    norm(field.layers[0], "weight")
    norm(field.layers[1], "weight")
    return of_module(field.double())


def _parametrized() -> Made:
    field = mlp()
    for parameter in field.parameters():
        parameter.requires_grad_(False)
    parametrize.register_parametrization(field.layers[1], "weight", randomized(Low()))
    return of_module(field)


def _averaged(module: nn.Module) -> Made:
    averaged = AveragedModel(module)
    return of_module(averaged, averaged.module)


def _parallel(module: TimeFirst | TimeLast) -> Made:
    return of_module(Parallel(module), module.at)


def _compiled(module: nn.Module) -> Made:
    torch._dynamo.reset()
    return of_module(torch.compile(module, backend="eager"), module)  # type: ignore[arg-type]


def _compiled_function() -> Made:
    torch._dynamo.reset()
    module = TimeFirst()
    field = torch.compile(lambda t, x: module.at(t, x), backend="eager")
    return Made(field, module.at, start(), dict(module.named_parameters()), module)


def _traced() -> Made:
    module = TimeFirst()
    traced = torch.jit.trace(module, (torch.tensor(0.2, dtype=torch.float64), start()))
    return of_module(traced, module.at)


class Scriptable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = randomized(nn.Linear(2, 2))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x) + t)


def _scripted() -> Made:
    module = Scriptable()
    return of_module(torch.jit.script(module), module)


def _depth() -> Made:
    joined = randomized(Joined())

    def plain(t: Tensor, x: Tensor) -> Tensor:
        return joined(torch.cat([x, t.expand(len(x), 1)], 1))

    return of_module(nn.Sequential(DepthCat(1), joined), plain)


def _conv(kind: Callable[..., nn.Module]) -> Made:
    return of_module(randomized(kind(1, hidden=(2,), activation="tanh")), x=start(*IMAGE))


def _unet() -> Made:
    field = randomized(UNetField(1, width=8, levels=1, attention=True))
    for parameter in field.last.parameters():  # the only one that no normalisation tames
        parameter.data.mul_(0.1)
    return of_module(field, x=start(*IMAGE))


class Adapted(nn.Module):
    """A frozen layer with an adapter beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base = randomized(nn.Linear(2, 4)).requires_grad_(False)
        self.down = randomized(nn.Linear(2, 1, bias=False))
        self.up = randomized(nn.Linear(1, 4, bias=False))
        self.out = randomized(nn.Linear(4, 2)).requires_grad_(False)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.base(x) + self.up(self.down(x)) + t))


WRAPPERS = (
    Case("`MLPField`", lambda: of_module(mlp())),
    Case("`ConvField`", lambda: _conv(ConvField)),
    Case("`UNetField`", _unet),
    Case(
        "subclass of `MLPField` with another forward",
        lambda: of_module(randomized(Faster(2, (8,), "tanh"))),
    ),
    Case("subclass of `ConvField` with another forward", lambda: _conv(FasterConv)),
    Case("forward replaced on the instance", _replaced_forward),
    Case("forward hook", lambda: _hooked(before=False, inner=False)),
    Case("forward hook on a layer", lambda: _hooked(before=False, inner=True)),
    Case("forward pre-hook", lambda: _hooked(before=True, inner=False)),
    Case("forward pre-hook on a layer", lambda: _hooked(before=True, inner=True)),
    Case("parametrization: `weight_norm`", lambda: _normed(parametrizations.weight_norm)),
    Case(
        "parametrization: `spectral_norm`, training",
        lambda: _normed(parametrizations.spectral_norm),
        CHANGING,
        1e-3,
    ),
    Case(
        "parametrization: `spectral_norm`, evaluation",
        lambda: _normed(parametrizations.spectral_norm, train=False),
    ),
    Case("parametrization: low rank (LoRA)", _parametrized),
    Case("adapter of low rank (LoRA)", lambda: of_module(Adapted())),
    Case("`value_and_vjp` that is right", lambda: of_module(RightProduct())),
    Case("`value_and_vjp` that is wrong", lambda: of_module(WrongProduct())),
    Case("`AveragedModel`", lambda: _averaged(TimeFirst())),
    Case("`AveragedModel` of `MLPField`", lambda: _averaged(mlp())),
    Case("`DataParallel`-like, `f(t, x)` within", lambda: _parallel(TimeFirst())),
    Case("`DataParallel`-like, `f(x, t)` within", lambda: _parallel(TimeLast())),
    Case("`torch.jit.trace`", _traced),
    Case("`torch.jit.script`", _scripted),
    Case("`torch.compile` of a module", lambda: _compiled(TimeFirst())),
    Case("`torch.compile` of `MLPField`", lambda: _compiled(mlp())),
    Case("`torch.compile` of a function", _compiled_function),
    Case("torchdyn's `DepthCat`", _depth),
)
