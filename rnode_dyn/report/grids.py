"""Samples of an image model as one picture: a panel for each temperature, real images beside."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.checks import deferred_checks
from rnode_dyn.numerics.seeding import seeded
from rnode_dyn.report.canvas import grid, in_rows, titled
from rnode_dyn.report.given import conditions_at

# Images smaller than this are enlarged by whole pixels, so that a person can see them.
_LEGIBLE_SIDE = 32


def draw_samples(
    model: MultiscaleFlow,
    event: Event,
    count: int,
    temperature: float,
    seed: int,
    condition: Tensor | None = None,
) -> Tensor:
    """Draw samples; pixels are put back on their levels.

    Args:
        model: The flow.
        event: What one sample looks like.
        count: How many.
        temperature: Standard deviation of the latent variable.
        seed: Seed of the latent variable: at another temperature it is the same one, scaled.
        condition: Of a conditional flow, that of all samples; left out, its classes in turn, as
            many of each.

    Returns:
        Pixels between 0 and 1, or continuous samples, ``(count, *event.shape)``.
    """
    device = first_weight(model).device
    distribution = FlowDistribution(model, event.shape, temperature)
    given = conditions_at(model, event, count, condition)
    with seeded(device, seed), deferred_checks() as checks:
        if given is None:
            drawn = distribution.sample((count,))
        else:
            drawn = distribution.given(given).sample()
        samples = checks.fetch(drawn)
    return samples if event.levels is None else on_levels(samples, event.levels)


def draw_panels(
    model: MultiscaleFlow,
    event: Event,
    count: int,
    temperatures: Sequence[float],
    seed: int,
    data: Tensor | None = None,
    condition: Tensor | None = None,
) -> dict[str, Tensor]:
    """Draw samples at several temperatures, all from the same noise.

    Args:
        model: The flow.
        event: What one sample looks like; an image.
        count: Samples at each temperature.
        temperatures: Standard deviations of the latent variable.
        seed: Seed of the latent variable.
        data: Real images of integer pixels, ``(n, *event.shape)``; left out, there is no panel of
            them.
        condition: As in :func:`draw_samples`.

    Returns:
        Images between 0 and 1 by the panel's title.
    """
    panels = {} if data is None else {"data": shades_of(data, event)}
    for temperature in temperatures:
        title = f"temperature {temperature:g}"
        panels[title] = draw_samples(model, event, count, temperature, seed, condition)
    return panels


def on_levels(u: Tensor, levels: int) -> Tensor:
    """Return the shades, 0 for the lowest level and 1 for the highest, of points of the cube.

    Example:
        >>> import torch
        >>> on_levels(torch.tensor([-0.1, 0.0, 0.6, 1.0]), levels=2)
        tensor([0., 0., 1., 1.])
    """
    return (u * levels).floor().clamp(0, levels - 1) / (levels - 1)


def shades_of(pixels: Tensor, event: Event) -> Tensor:
    """Return the shades of integer pixels, 0 for the lowest level and 1 for the highest."""
    return pixels.float() / ((event.levels or 256) - 1)


def save_panels(panels: Mapping[str, Tensor], path: Path, columns: int | None = None) -> None:
    """Write grids of images side by side, each under its title.

    Args:
        panels: Images between 0 and 1, ``(count, channels, height, width)``, by title.
        path: The picture's file.
        columns: Images in a row; left out, as many as make the grid a square.

    Raises:
        ValueError: if the images have neither one channel nor three.
    """
    pictures = [
        titled(grid(shades, columns or math.ceil(math.sqrt(len(shades))), _LEGIBLE_SIDE), title)
        for title, shades in panels.items()
    ]
    in_rows(pictures).save(path)
