"""A loss whose batch goes through the solve in pieces: the same loss and gradient, less memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.divergence import Divergence, HutchinsonDivergence, Linearization
from rnode_dyn.flows.end_time import Uniform
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.share import drawn
from rnode_dyn.flows.solve_penalties import StatesPenalty
from rnode_dyn.numerics.checks import retelling
from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.training.objectives.base import (
    Loss,
    Objective,
    labels_left_out,
    with_labels_left_out,
)


def loss_in_pieces(
    objective: Objective,
    model: MultiscaleFlow,
    u: Tensor,
    event: Event,
    size: int,
    condition: Tensor | None = None,
) -> Loss:
    """Return the loss on ``u``, solved and differentiated piece by piece.

    The pieces' gradients add up to the whole batch's, to rounding, with fixed steps; adaptive
    steps are each piece's own. The noise is drawn for the whole batch, and then cut: a seed gives
    the same noise as without pieces, and the same times: nodes of a quadrature, ends, places of
    penalties; and the same labels are left out. A last piece may be smaller, and weighs less.

    Args:
        objective: A mean over samples.
        model: The flow.
        u: The batch.
        event: What one sample looks like.
        size: Samples in a piece, 1 or more.
        condition: Of a conditional flow, a row a sample; it is data, and gets no gradient.

    Returns:
        The loss; its gradient has been computed, and is handed out when it is asked for. Figures
        are means over the samples.

    Raises:
        ValueError: if the objective is no mean over samples, or ``size`` is not positive.
        SolverError: if the solve of a piece breaks down.
    """
    check_pieces(objective, size)
    total, condition = _Total(model, u), with_labels_left_out(model, u, condition)
    with _drawn_noise(model, u) as noise, labels_left_out():
        for start in range(0, len(u), size):
            piece = noise.samples = slice(start, min(start + size, len(u)))
            given = {} if condition is None else {"condition": condition[piece]}
            with retelling(partial(_counted_from, start)):
                total.add(objective.loss(model, u[piece], event, **given), piece)
    return total.loss()


def check_pieces(objective: Objective, size: int) -> None:
    """Refuse pieces that are none, or whose losses do not add up to the batch's.

    Raises:
        ValueError: as :func:`loss_in_pieces`.
    """
    if not objective.is_mean_over_samples:
        raise ValueError(
            f"{type(objective).__name__} does not say that it is a mean over samples, so that "
            "its loss cannot be computed in pieces: leave micro_batch out."
        )
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"micro_batch is {size!r}; write a whole number of samples, 1 or more.")


class _Total:
    """Adds the pieces' losses up, each by its share of the batch, and lets their graphs go.

    Args:
        model: The flow.
        u: The batch.
    """

    def __init__(self, model: MultiscaleFlow, u: Tensor) -> None:
        self.samples, self.value = len(u), u.new_zeros(())
        self.figures: dict[str, Tensor] = {}
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.gradients: list[Tensor | None] = [None] * len(self.trained)

    def add(self, loss: Loss, piece: slice) -> None:
        """Add a piece's loss and gradient."""
        share = (piece.stop - piece.start) / self.samples
        if torch.is_grad_enabled():
            own = torch.autograd.grad(share * loss.value, self.trained, allow_unused=True)
            self.gradients = [_sum(*pair) for pair in zip(self.gradients, own, strict=True)]
        self.value = self.value + share * loss.value.detach()
        for name, figure in loss.figures.items():
            self.figures[name] = self.figures.get(name, 0.0) + share * figure

    def loss(self) -> Loss:
        """Return the batch's loss."""
        return Loss(_Computed.apply(self.value, self.gradients, *self.trained), self.figures)  # type: ignore[arg-type]


def _sum(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    if total is None or more is None:
        return more if total is None else total
    return total + more  # not in place: two parameters may share the memory of a gradient


@dataclass
class _Noise:
    """Which samples' noise is handed out."""

    samples: slice = field(default_factory=lambda: slice(None))


@contextmanager
def _drawn_noise(model: MultiscaleFlow, u: Tensor) -> Iterator[_Noise]:
    """Draw each block's noise and times for the whole batch, in the order of its solve."""
    noise, before = _Noise(), [_drawing(block) for block in model.blocks]
    # States have the weights' precision, which the data need not have.
    one = u.new_empty((), dtype=next((p.dtype for p in model.parameters()), u.dtype))
    for station in model.walk():
        flow, like = station.flow, one.expand(len(u), *station.shape)
        if isinstance(flow.end, Uniform):
            flow.end = flow.end.drawn_once(like)
        divergence = flow.divergence
        if isinstance(divergence, HutchinsonDivergence):
            flow.divergence = _Drawn(divergence, drawn(divergence.draw, like), noise)
        flow.quadrature = flow.quadrature.drawn_once(like)
        if flow.penalty_quadrature is not None:
            flow.penalty_quadrature = flow.penalty_quadrature.drawn_once(like)
        flow.regularizers = tuple(
            r.drawn_once(like) if isinstance(r, StatesPenalty) else r for r in flow.regularizers
        )
    try:
        yield noise
    finally:
        for block, parts in zip(model.blocks, before, strict=True):
            for name, part in parts.items():
                setattr(block, name, part)


def _drawing(flow: RegularizedFlow) -> dict[str, object]:
    """The parts of a block that draw something for each solve, by name."""
    names = ("end", "divergence", "quadrature", "penalty_quadrature", "regularizers")
    return {name: getattr(flow, name) for name in names}


class _Drawn(Divergence):
    """Hutchinson's divergence with noise that is there already.

    Args:
        divergence: The divergence.
        drawn: Its probes for the whole batch, ``(probes, batch, *event)``.
        noise: Says which samples are solved.
    """

    def __init__(self, divergence: HutchinsonDivergence, drawn: Tensor, noise: _Noise) -> None:
        self.divergence, self.drawn, self.noise = divergence, drawn, noise

    def draw(self, x: Tensor) -> Tensor:
        """Return the samples' own part."""
        return self.drawn[:, self.noise.samples]

    def linearize(self, *args: Any, **kwargs: Any) -> Linearization:
        """Evaluate the field and its divergence."""
        return self.divergence.linearize(*args, **kwargs)


def _counted_from(start: int, error: SolverError) -> SolverError:
    """Name a sample that breaks down by its place in the batch."""
    return error.changed(worst_sample=start + error.worst_sample)


class _Computed(torch.autograd.Function):
    """A value whose gradient has been computed beforehand."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gradients: list[Tensor | None], *trained: Tensor
    ) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:  # type: ignore[override]
        return None, None, *(None if g is None else grad * g for g in ctx.gradients)
