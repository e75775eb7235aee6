"""A flow as functions of tensors alone, which a trace can follow: its log-density, its samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnode_dyn.flows.conditions import handed
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.divergence import (
    Divergence,
    ExactDivergence,
    HutchinsonDivergence,
    Linearization,
)
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.weights import first_weight

Arguments = dict[str, Tensor]


class Rows:
    """Numbers of each sample, ``(batch, width)``, that are taken from one after another."""

    def __init__(self) -> None:
        self.rest = torch.empty(0, 0)

    def take(self, count: int) -> Tensor:
        """Return the next so many of each sample."""
        taken, self.rest = self.rest[:, :count], self.rest[:, count:]
        return taken


@dataclass(frozen=True)
class HandedNoise(Divergence):
    """Hutchinson's estimate with noise that is handed over, and not drawn.

    Args:
        estimate: Whose noise it is.
        rows: Where it lies.
    """

    estimate: HutchinsonDivergence
    rows: Rows

    def draw(self, x: Tensor) -> Tensor:
        """Return the noise that is next, as the estimate would have drawn it."""
        probes, event = self.estimate.probes, x.shape[1:]
        taken = self.rows.take(probes * math.prod(event))
        return taken.reshape(x.shape[0], probes, *event).transpose(0, 1)

    def linearize(
        self,
        field: Callable,
        t: Tensor,
        x: Tensor,
        noise: Tensor | None,
        with_push: bool = False,
    ) -> Linearization:
        """Estimate as ever."""
        return self.estimate.linearize(field, t, x, noise, with_push)


class Samples(nn.Module):
    """Latent vectors ``(batch, dimension)`` to samples; of a conditional flow, with conditions.

    Args:
        flow: The flow, in evaluation mode.
    """

    def __init__(self, flow: MultiscaleFlow) -> None:
        super().__init__()
        self.flow = flow

    def arguments(self, batch: int, condition: Tensor | None) -> Arguments:
        """Return arguments for so many samples, by name."""
        like = first_weight(self.flow)
        z = torch.randn(batch, math.prod(self.flow.event_shape), dtype=like.dtype)
        return {"z": z, **_repeated(condition, batch)}

    def forward(self, z: Tensor, *more: Tensor) -> Tensor:
        """Carry them to data; ``more`` is the condition, of a flow that takes one."""
        return self.flow.generate(z, **handed(self.flow, more[0] if more else None))


class LogDensity(nn.Module):
    """log p of samples ``(batch, *event)`` as ``(batch,)``, in nats.

    Where a block's divergence is an estimate, its noise is an argument as well: ``(batch,
    width)``, all blocks' one after another.

    Args:
        flow: The flow, in evaluation mode; its estimates are made to take the noise from there,
            and it loses its penalties.

    Raises:
        TypeError: if a divergence is neither exact nor Hutchinson's.
    """

    def __init__(self, flow: MultiscaleFlow) -> None:
        super().__init__()
        self.flow, self.rows = flow, Rows()
        self.noise: list[tuple[HutchinsonDivergence, tuple[int, ...]]] = []
        for station in flow.walk():
            # Nobody asks for them, and not all of them can be traced.
            station.flow.drop_penalties()
            divergence = station.flow.active_divergence
            if isinstance(divergence, HutchinsonDivergence):
                self.noise.append((divergence, station.shape))
                station.flow.eval_divergence = HandedNoise(divergence, self.rows)
            elif not isinstance(divergence, ExactDivergence):
                raise TypeError(
                    f"a block's divergence is {divergence}, whose noise could not be handed over: "
                    "build the flow with ExactDivergence() or HutchinsonDivergence()."
                )

    def arguments(self, batch: int, condition: Tensor | None) -> Arguments:
        """Return arguments for so many samples, by name; samples are the flow's own."""
        sampled = Samples(self.flow)
        drawn = sampled.arguments(batch, condition)
        with torch.no_grad():
            x = sampled(*drawn.values())
        given = {"x": x, **_repeated(condition, batch)}
        if not self.noise:
            return given
        kind = drawn["z"].dtype
        parts = [d.draw(torch.empty(batch, *shape, dtype=kind)) for d, shape in self.noise]
        return {**given, "noise": torch.cat([p.transpose(0, 1).flatten(1) for p in parts], dim=1)}

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """Return the log-density; ``more`` are condition and noise, what there is of them."""
        if self.noise:
            self.rows.rest = more[-1]
        z, log_det, _ = self.flow(x, **handed(self.flow, more[0] if more else None))
        return standard_normal_log_prob(z) + log_det


def _repeated(condition: Tensor | None, batch: int) -> Arguments:
    """Conditions for so many samples: those given, over and over."""
    if condition is None:
        return {}
    return {"condition": condition[torch.arange(batch) % len(condition)]}
