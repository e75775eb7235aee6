"""A regularized flow as a textbook would write it, with the same weights as one of ours.

Time is one more input channel of every layer, and so are the numbers of a condition. Autograd
makes the vector-Jacobian product, and torchdiffeq solves state, log-determinant and penalties
together and differentiates the solve by its adjoint: the way of FFJORD and of Finlay et al.
(2020). The noise is drawn once a solve.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torchdiffeq
from torch import Tensor, nn
from torch.nn import functional as F

from rnode_dyn import MultiscaleFlow, RegularizedFlow, Squeeze
from rnode_dyn.fields.conv import TimeConv
from rnode_dyn.fields.feedforward import FeedForwardField

State = tuple[Tensor, Tensor, Tensor, Tensor]


class TextbookField(nn.Module):
    """Convolutions or linear layers on (time, condition, state), softplus between.

    Args:
        field: Ours, whose weights are copied.
    """

    def __init__(self, field: FeedForwardField) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(layer) for layer in field.layers)
        self.condition: Tensor | None = None
        self.evaluations = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate f(t, x)."""
        self.evaluations += 1
        for number, layer in enumerate(self.layers):
            x = F.softplus(x) if number else x
            time = t.expand(len(x), 1, *x.shape[2:]).to(x.dtype)
            given = [] if self.condition is None else [self.condition]
            x = layer(torch.cat([time, *given, x], dim=1))
        return x


def _layer(ours: nn.Module) -> nn.Module:
    weight, bias = joined(ours)
    if isinstance(ours, TimeConv):
        layer: nn.Module = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    else:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer


def joined(layer: nn.Module, gradient: bool = False) -> list[Tensor]:
    """Return weight and bias of a layer of ours as the textbook has them, or their gradients."""

    def part(name: str) -> Tensor | None:
        parameter = cast(nn.Parameter | None, getattr(layer, name, None))
        return parameter.grad if gradient and parameter is not None else parameter

    time, condition, weight, bias = map(part, ("time_weight", "condition_weight", "weight", "bias"))
    assert time is not None
    assert weight is not None
    assert bias is not None
    inputs = [time.view(len(weight), 1, *weight.shape[2:]), condition, weight]
    joint = torch.cat([each for each in inputs if each is not None], dim=1)
    return [joint.detach(), bias.detach()]


class TextbookBlock(nn.Module):
    """One continuous block.

    Args:
        flow: Ours: field, weights of the penalties.
        adjoint: Differentiate by the adjoint, an ODE of its own, and not through the steps.
        options: What torchdiffeq is to solve with.
    """

    def __init__(self, flow: RegularizedFlow, adjoint: bool = True, **options: object) -> None:
        super().__init__()
        self.adjoint = adjoint
        self.field = TextbookField(cast(FeedForwardField, flow.field))
        self.weights = [regularizer.weight for regularizer in flow.regularizers]
        self.options = options
        self.noise = torch.empty(0)

    def dynamics(self, t: Tensor, state: State) -> State:
        """Return d/dt of state, log-determinant, kinetic energy, Jacobian norm."""
        with torch.enable_grad():
            x = state[0].requires_grad_(True)
            value = self.field(t, x)
            product = torch.autograd.grad(value, x, self.noise, create_graph=True)[0]
        return (
            value,
            (product * self.noise).flatten(1).sum(1),
            0.5 * value.square().flatten(1).mean(1),
            product.square().flatten(1).mean(1),
        )

    def forward(self, x: Tensor) -> State:
        """Carry data to the latent variable, from time 0 to 1."""
        self.noise = torch.randn((1, *x.shape), dtype=x.dtype, device=x.device)[0]
        start = (x, *x.new_zeros(3, len(x)))
        times = torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device)
        adjoint = self.adjoint and torch.is_grad_enabled()
        solve = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
        more = {"adjoint_params": tuple(self.parameters())} if adjoint else {}
        solved = solve(_Call(self), start, times, **self.options, **more)  # type: ignore[arg-type]
        return cast(State, tuple(part[-1] for part in solved))

    def generate(self, z: Tensor) -> Tensor:
        """Carry the latent variable back, without the density."""
        times = torch.tensor([1.0, 0.0], dtype=z.dtype, device=z.device)
        return cast(Tensor, torchdiffeq.odeint(self.field, z, times, **self.options))[-1]  # type: ignore[arg-type]


class _Call(nn.Module):
    """What torchdiffeq is handed: a module without parameters of its own to look for."""

    def __init__(self, block: TextbookBlock) -> None:
        super().__init__()
        self.call = block.dynamics

    def forward(self, t: Tensor, state: State) -> State:
        return self.call(t, state)


class TextbookFlow(nn.Module):
    """All blocks of a multiscale flow of ours; squeezes, splits and the logit are shared.

    Args:
        model: Ours.
        adjoint: As a block's.
        options: What torchdiffeq is to solve with.
    """

    def __init__(self, model: MultiscaleFlow, adjoint: bool = True, **options: object) -> None:
        super().__init__()
        self.model = [model]  # in a list: its weights are not the textbook's
        blocks = [TextbookBlock(block, adjoint, **options) for block in model.blocks]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, u: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the latent vector, the log-determinant, and the weighted penalties."""
        (model,) = self.model
        x, log_det, _ = model.preprocess(u)
        leaving, weighted, blocks = [], x.new_zeros(len(x)), iter(self.blocks)
        for scale in model.scale_list():
            for step in scale.steps:
                if isinstance(step, Squeeze):
                    x = step(x).z
                    continue
                block = cast(TextbookBlock, next(blocks))
                block.field.condition = condition
                x, more, *penalties = block(x)
                log_det = log_det + more
                weighted = weighted + weigh(block.weights, penalties)
            if scale.split:
                x, leaves = x.chunk(2, dim=1)
                leaving.append(leaves.flatten(1))
        return torch.cat([*leaving, x.flatten(1)], dim=1), log_det, weighted

    @property
    def evaluations(self) -> int:
        """Evaluations of all fields so far."""
        return sum(cast(TextbookBlock, block).field.evaluations for block in self.blocks)


def weigh(weights: Sequence[float], penalties: Sequence[Tensor]) -> Tensor:
    """Return Σ weight · penalty."""
    return torch.stack([w * p for w, p in zip(weights, penalties, strict=True)]).sum(0)
