"""Noise on its way to an image, block by block, as a strip of pictures."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.conditions import handed
from rnode_dyn.flows.multiscale import MultiscaleFlow, Station
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.report.canvas import grid, in_rows, titled
from rnode_dyn.report.given import one_each
from rnode_dyn.report.grids import on_levels

# A column's title needs about this width.
_COLUMN_SIDE = 64
_COLUMNS = 8
_GAP = 6


class Frame(NamedTuple):
    """What has become of the noise at one moment.

    Attributes:
        title: Where on the way that is; several lines.
        images: Points of the unit cube and a little beyond, ``(count, *event_shape)``.
    """

    title: str
    images: Tensor


def draw_strip(
    model: MultiscaleFlow,
    event: Event,
    count: int,
    temperature: float,
    seed: int,
    path: Path,
    condition: Tensor | None = None,
) -> None:
    """Write a picture with a row for each sample and a column for each moment.

    Args:
        model: The flow.
        event: What one sample looks like; an image.
        count: How many samples.
        temperature: Standard deviation of the noise.
        seed: Seed of the noise.
        path: The picture's file.
        condition: Of a conditional flow, that of all samples; left out, its classes in turn.
    """
    like = first_weight(model)  # its device and precision
    z = temperature * torch.randn(
        count, event.dims, generator=torch.Generator().manual_seed(seed)
    ).to(like)
    save_strip(frames(model, z, one_each(model, event, count, condition)), event, path)


def save_strip(strip: list[Frame], event: Event, path: Path) -> None:
    """Write frames as the columns of a picture, each under its title."""
    columns = [
        titled(grid(on_levels(f.images, event.levels or 256), 1, _COLUMN_SIDE), f.title)
        for f in strip
    ]
    in_rows(columns, _GAP).save(path)


@torch.no_grad()
def frames(model: MultiscaleFlow, z: Tensor, condition: Tensor | None = None) -> list[Frame]:
    """Return the states on the way from noise to images, in the image's own layout.

    The blocks undo themselves from the last to the first. A value that no block has taken up yet
    is shown as the noise that it is. With fewer than eight blocks each is shown several times.

    Args:
        model: The flow, in evaluation mode.
        z: Latent vectors, ``(batch, dimension)``.
        condition: Of a conditional flow, a row for each.

    Returns:
        First the noise, last the sample ``model.generate(z)``.
    """
    condition, canvas = model.enter_condition(condition), torch.empty_like(z)
    canvas[:, latent_coordinates(model).to(z.device)] = z
    stations = list(model.walk())
    times = -(-_COLUMNS // len(stations))
    strip = [Frame("noise\n" + "\n" * (times > 1), _as_images(model, canvas))]
    for number, station in reversed(list(enumerate(stations))):
        where = station.coordinates.flatten().to(z.device)
        for t, state in _undo(station, canvas[:, where], times, condition):
            canvas[:, where] = state.flatten(1)
            strip.append(Frame(_title(number, station, t, times), _as_images(model, canvas)))
    return strip


def latent_coordinates(model: MultiscaleFlow) -> Tensor:
    """Return which data coordinate each entry of a latent vector becomes, ``(dimension,)``.

    Example:
        >>> from rnode_dyn import ConvField, Scale
        >>> blocks = [RegularizedFlow(ConvField(channels, (4,))) for channels in (1, 2)]
        >>> latent_coordinates(MultiscaleFlow(
        ...     (1, 2, 2), [Scale(blocks[:1], squeeze=True, split=True), Scale(blocks[1:])]
        ... ))
        tensor([2, 3, 0, 1])
    """
    indices = torch.arange(torch.Size(model.event_shape).numel()).reshape(1, *model.event_shape)
    left = []
    for scale in model.scale_list():
        for step in scale.steps:
            indices = indices if isinstance(step, RegularizedFlow) else step(indices).z
        if scale.split:
            indices, leaving = indices.chunk(2, dim=1)
            left.append(leaving.flatten())
    return torch.cat([*left, indices.flatten()])


def _undo(
    station: Station, state: Tensor, times: int, condition: Tensor | None
) -> list[tuple[float, Tensor]]:
    """Return ``times`` moments of a block's way back, the last of them its start."""
    end = station.flow.end_time
    moments = [end * (1 - step / times) for step in range(times + 1)]
    given = handed(station.flow, condition)
    path = station.flow.trajectory(state.reshape(-1, *station.shape), moments, **given)
    return list(zip(moments[1:], path[1:], strict=True))


def _title(number: int, station: Station, t: float, times: int) -> str:
    when = f"\nt = {t:.2g}" if times > 1 else ""
    return f"scale {station.scale}\nblock {number}{when}"


def _as_images(model: MultiscaleFlow, canvas: Tensor) -> Tensor:
    # A copy, since without a transform in front this would be the canvas itself.
    return model.preprocess.generate(canvas.clone().reshape(-1, *model.event_shape)).cpu()
