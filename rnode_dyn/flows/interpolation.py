"""From one sample to another through the latent space of a flow."""

import torch
from torch import Tensor

from rnode_dyn.flows.multiscale import MultiscaleFlow, as_multiscale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.numerics.numbers import whole


@torch.no_grad()
def interpolate(
    flow: MultiscaleFlow | RegularizedFlow,
    start: Tensor,
    end: Tensor,
    count: int = 8,
    condition: Tensor | None = None,
) -> Tensor:
    """Return samples on the way between others, by great circles of the latent space.

    Straight lines would pass nearer to the origin than Gaussian noise of many dimensions ever
    lies, and show samples that the flow never draws.

    Args:
        flow: The flow.
        start: Where the ways begin, as the flow takes data, ``(batch, *event)``.
        end: Where they end, likewise.
        count: Samples on each way, both ends included: 2 or more.
        condition: Of a conditional flow, a row for each way.

    Returns:
        ``(batch, count, *event)``; the first and last of each are what was given, as far as the
        flow is solved.

    Raises:
        ValueError: if the ends do not belong together, or there are fewer than 2 samples.

    Example:
        >>> from rnode_dyn import MLPField, RegularizedFlow, Scale
        >>> flow = MultiscaleFlow((2,), [Scale([RegularizedFlow(MLPField(2))])])
        >>> interpolate(flow, torch.zeros(3, 2), torch.ones(3, 2), count=5).shape
        torch.Size([3, 5, 2])
    """
    if start.shape != end.shape:
        raise ValueError(
            f"start has shape {tuple(start.shape)} and end {tuple(end.shape)}: give one of each "
            "for every way."
        )
    model = as_multiscale(flow, start.shape[1:])
    ends = [model(x, condition).z for x in (start, end)]
    return between_latents(model, ends[0], ends[1], count, condition)


@torch.no_grad()
def between_latents(
    flow: MultiscaleFlow, start: Tensor, end: Tensor, count: int, condition: Tensor | None = None
) -> Tensor:
    """Return samples on the way between latent vectors ``(batch, dimension)``, as above."""
    if whole("interpolate", "count", count) < 2:
        raise ValueError("interpolate: count is 1; write 2 or more, since both ends are counted.")
    weights = torch.linspace(0, 1, count, dtype=start.dtype, device=start.device)
    z = torch.stack([on_circle(start, end, weight) for weight in weights], dim=1)
    repeated = None if condition is None else condition.repeat_interleave(count, dim=0)
    samples = flow.generate(z.flatten(0, 1), repeated)
    return samples.unflatten(0, (-1, count))


def on_circle(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Return points between vectors, on arcs whose radius goes evenly from one's to the other's.

    Args:
        start: Vectors at a weight of 0, ``(batch, dimension)``.
        end: Vectors at a weight of 1.
        weight: How far, 0-dim.

    Example:
        >>> start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
        >>> on_circle(start, end, torch.tensor(0.5))
        tensor([[2.1213, 2.1213]])
    """
    radii = [x.norm(dim=1, keepdim=True) for x in (start, end)]
    smallest = torch.finfo(start.dtype).tiny
    one, other = (x / r.clamp(min=smallest) for x, r in zip((start, end), radii, strict=True))
    angle = (one * other).sum(1, keepdim=True).clamp(-1, 1).acos()
    radius = torch.lerp(radii[0], radii[1], weight)
    arc = (((1 - weight) * angle).sin() * one + (weight * angle).sin() * other) / angle.sin()
    # Vectors in one direction have no arc between them, opposite ones any, and 0 no direction.
    has_arc = (angle.sin() > 1e-4) & (radii[0] > 0) & (radii[1] > 0)
    return torch.where(has_arc, radius * arc, torch.lerp(start, end, weight))
