"""One field of the contract: how a user writes it, the plain function it means, what may refuse."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Plain = Callable[[Tensor, Tensor], Tensor]

CONTINUOUS = frozenset({"BacksolveAdjoint", "InterpolatingAdjoint"})
OWN_BACKWARD = CONTINUOUS | {"CheckpointedAdjoint", "ReversibleAdjoint"}
ALL = OWN_BACKWARD | {"DiscreteAdjoint"}


@dataclass(frozen=True)
class Made:
    """A field, built anew for one cell, so that no cell sees what another has changed.

    Attributes:
        field: What the user hands over.
        plain: The same f(t, x) in plain torch, called as its author meant it.
        x: A batch to start from.
        tensors: What wants a gradient besides ``x``, by name.
        module: What holds the buffers.
    """

    field: Callable[..., Any]
    plain: Plain
    x: Tensor
    tensors: dict[str, Tensor] = field(default_factory=dict)
    module: nn.Module | None = None


@dataclass(frozen=True)
class Refused:
    """What a field is refused for; it is right in everything else.

    Attributes:
        by: Sensitivities that refuse it whatever is asked.
        times: Whether gradients of times are refused.
        flow: Whether the log-determinant and the penalties are.
        along: Whether the penalties that differentiate along the flow are.
    """

    by: frozenset[str] = frozenset()
    times: bool = False
    flow: bool = False
    along: bool = False


RIGHT = Refused()
REFUSED = Refused(by=ALL)
# A field that draws or counts is another one whenever it is evaluated.
CHANGING = Refused(by=CONTINUOUS, times=True)


@dataclass(frozen=True)
class Case:
    """A field of the contract.

    Attributes:
        name: As the table in the documentation says it.
        make: Builds it.
        refused: What it is refused for.
        tolerance: Of adaptive steps; a field that draws anew has no steps at a small one.
    """

    name: str
    make: Callable[[], Made]
    refused: Refused = RIGHT
    tolerance: float = 1e-7

    def build(self) -> Made:
        """Build it, the same one every time."""
        torch.manual_seed(0)
        return self.make()

    def __str__(self) -> str:
        return self.name


def start(*event: int) -> Tensor:
    """Three samples of a state, two numbers each if nothing else is said."""
    draw = torch.Generator().manual_seed(1)
    return 0.7 * torch.randn(3, *(event or (2,)), generator=draw, dtype=torch.float64)


def drawn(*shape: int, seed: int = 2) -> Tensor:
    """A tensor of numbers of order one."""
    draw = torch.Generator().manual_seed(seed)
    return 0.8 * torch.randn(shape, generator=draw, dtype=torch.float64)


def leaf(*shape: int, seed: int = 2) -> Tensor:
    """One that wants a gradient."""
    return drawn(*shape, seed=seed).requires_grad_()


def randomized(module: nn.Module) -> nn.Module:
    """A module in float64 whose parameters are of order one; a last layer of zeros hides faults."""
    module.double()
    for index, parameter in enumerate(module.parameters()):
        parameter.data.copy_(0.5 * drawn(*parameter.shape, seed=10 + index))
    return module


def trained(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that want a gradient."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def of_module(module: nn.Module, plain: Plain | None = None, x: Tensor | None = None) -> Made:
    """A module f(t, x) as a field; ``plain`` where it is called in another way."""
    plain = module if plain is None else plain
    return Made(module, plain, start() if x is None else x, trained(module), module)
