"""Fields that use tensors besides their arguments: held, closed over, made from others."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.contract.fields.case import Case, Made, drawn, leaf, randomized, start, trained
from tests.contract.fields.spellings import TimeFirst


class Held(TimeFirst):
    """A field with a context as an attribute, which is no parameter and no buffer."""

    def __init__(self, context: Tensor) -> None:
        super().__init__()
        self.context = context

    def at(self, t: Tensor, x: Tensor) -> Tensor:
        return super().at(t, x) + torch.sin(self.context * x)


def _attribute(context: Callable[[], dict[str, Tensor]], frozen: bool = False) -> Made:
    """The last of the tensors is the field's context; all want a gradient."""
    tensors = context()
    module = Held(list(tensors.values())[-1]).requires_grad_(not frozen)
    return Made(module, module.at, start(), {**trained(module), **tensors}, module)


def _closure(context: Callable[[], dict[str, Tensor]]) -> Made:
    tensors = context()
    used = list(tensors.values())[-1]

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(used * x.flip(1) + t)

    return Made(field, field, start(), tensors)


def one() -> dict[str, Tensor]:
    return {"context": leaf(2)}


def per_sample() -> dict[str, Tensor]:
    return {"context": leaf(3, 2)}


def made() -> dict[str, Tensor]:
    code = leaf(2)
    return {"code": code, "context": torch.exp(code)}


def made_per_sample() -> dict[str, Tensor]:
    code, encoder = leaf(3, 4), randomized(nn.Linear(4, 2))
    return {"code": code, **trained(encoder), "context": torch.tanh(encoder(code))}


class Encoding(Held):
    """Computes its context once, before the solve, by a layer of its own."""

    def __init__(self) -> None:
        super().__init__(torch.empty(0))
        self.encoder = randomized(nn.Linear(4, 2))
        self.context = torch.tanh(self.encoder(drawn(3, 4)))


def _encoder_within() -> Made:
    module = Encoding()
    return Made(module, module.at, start(), {**trained(module), "context": module.context}, module)


def _made_of_another() -> Made:
    rate = leaf(2)
    double = 2 * rate

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(double * x.flip(1) + t) - rate * x

    return Made(field, field, start(), {"rate": rate, "double": double})


def _own_start() -> Made:
    x = start().requires_grad_()

    def field(t: Tensor, state: Tensor) -> Tensor:
        return torch.sin(state + t) - 0.5 * x

    return Made(field, field, x)


def _encoded_start() -> Made:
    x, encoder = start().requires_grad_(), randomized(nn.Linear(2, 2))
    code = torch.tanh(encoder(x))

    def field(t: Tensor, state: Tensor) -> Tensor:
        return torch.sin(code * state + t)

    return Made(field, field, x, {**trained(encoder), "code": code})


def _in_a_list() -> Made:
    module = TimeFirst()
    module.contexts = [{"scale": leaf(2)}]  # type: ignore[assignment]

    def plain(t: Tensor, x: Tensor) -> Tensor:
        return module.at(t, x) * module.contexts[0]["scale"]  # type: ignore[index]

    module.forward = plain  # type: ignore[method-assign]
    tensors = {**trained(module), "scale": module.contexts[0]["scale"]}  # type: ignore[index]
    return Made(module, plain, start(), tensors, module)  # type: ignore[arg-type]


def _view_of_a_leaf() -> Made:
    table = leaf(4, 2)

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(table[1:] * x + t)

    return Made(field, field, start(), {"table": table})


def _sparse() -> Made:
    graph = torch.eye(3, dtype=torch.float64).roll(1, 0).to_sparse()
    mix = leaf(2, 2)

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(torch.sparse.mm(graph, x @ mix) + t)

    return Made(field, field, start(), {"mix": mix})


def _frozen_only() -> Made:
    module = TimeFirst().requires_grad_(False)
    return Made(module, module.at, start(), {}, module)


def _plain_context() -> Made:
    context = drawn(3, 2)

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.sin(context * x + t)

    return Made(field, field, start())


CONTEXTS = (
    Case("context held: a leaf", lambda: _attribute(one)),
    Case("context held: not a leaf", lambda: _attribute(made)),
    Case("context held: a leaf, a row a sample", lambda: _attribute(per_sample)),
    Case("context held: not a leaf, a row a sample", lambda: _attribute(made_per_sample)),
    Case("context held by a frozen field: a leaf", lambda: _attribute(one, frozen=True)),
    Case("context held by a frozen field: not a leaf", lambda: _attribute(made, frozen=True)),
    Case("context made by a layer of the field", _encoder_within),
    Case("a leaf, and a tensor made of it", _made_of_another),
    Case("context in a list of dicts", _in_a_list),
    Case("context closed over: a leaf", lambda: _closure(one)),
    Case("context closed over: not a leaf", lambda: _closure(made)),
    Case("context closed over: a leaf, a row a sample", lambda: _closure(per_sample)),
    Case("context closed over: not a leaf, a row a sample", lambda: _closure(made_per_sample)),
    Case("context closed over that wants no gradient", _plain_context),
    Case("rows of a table closed over", _view_of_a_leaf),
    Case("the start itself, closed over", _own_start),
    Case("a code of the start, closed over", _encoded_start),
    Case("a sparse matrix that mixes samples", _sparse),
    Case("field whose parameters are frozen", _frozen_only),
)
