"""Samples of an image model as one picture."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torchvision.utils import make_grid, save_image

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.multiscale import MultiscaleFlow

# Images smaller than this are enlarged by whole pixels, so that a person can see them.
_LEGIBLE_SIDE = 32


def draw_samples(
    model: MultiscaleFlow, event: Event, count: int, temperature: float, seed: int
) -> Tensor:
    """Draw samples; pixels are put back on their levels.

    Args:
        model: The flow.
        event: What one sample looks like.
        count: How many.
        temperature: Standard deviation of the latent variable.
        seed: Seed of the latent variable.

    Returns:
        Pixels between 0 and 1, or continuous samples, ``(count, *event.shape)``.
    """
    device = next(model.parameters(), torch.empty(0)).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        samples = FlowDistribution(model, event.shape, temperature).sample((count,)).cpu()
    return samples if event.levels is None else on_levels(samples, event.levels)


def on_levels(u: Tensor, levels: int) -> Tensor:
    """Return the shades, 0 for the lowest level and 1 for the highest, of points of the cube.

    Example:
        >>> import torch
        >>> on_levels(torch.tensor([-0.1, 0.0, 0.6, 1.0]), levels=2)
        tensor([0., 0., 1., 1.])
    """
    return (u * levels).floor().clamp(0, levels - 1) / (levels - 1)


def save_grid(shades: Tensor, path: Path) -> None:
    """Write images (count, channels, height, width) between 0 and 1 as a square grid.

    Raises:
        ValueError: if the images have neither one channel nor three.
    """
    if shades.shape[1] not in (1, 3):
        raise ValueError(
            f"images of {shades.shape[1]} channels cannot be shown; a picture has 1 or 3."
        )
    enlarge = max(1, math.ceil(_LEGIBLE_SIDE / shades.shape[-1]))
    shades = shades.repeat_interleave(enlarge, -1).repeat_interleave(enlarge, -2)
    columns = math.ceil(math.sqrt(len(shades)))
    save_image(make_grid(shades, nrow=columns, padding=2, pad_value=0.5), path)
