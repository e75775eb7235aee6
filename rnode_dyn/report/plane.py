"""A two-dimensional flow as a picture: data, learned density, trajectories."""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.multiscale import MultiscaleFlow

_GRID = 200
_PATHS = 60
_TIMES_IN_BLOCK = 25


@torch.no_grad()
def draw_plane(model: MultiscaleFlow, data: Tensor, path: Path) -> None:
    """Write data, density and trajectories side by side.

    Args:
        model: A flow of points (x, y).
        data: Points, ``(n, 2)``.
        path: The picture's file.
    """
    limit = 1.25 * float(data.abs().max())
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.scatter(*data[:4000].T.numpy(), s=1, alpha=0.5, color="black")
    left.set_title("data")
    _draw_density(middle, model, limit)
    _draw_trajectories(right, model, data[:_PATHS])
    for axes in (left, middle):
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    figure.savefig(path, dpi=110)


def density_on_grid(model: MultiscaleFlow, limit: float, points: int = _GRID) -> Tensor:
    """Density at the centres of a square grid's cells over [−limit, limit]².

    Returns:
        Densities, ``(points, points)``: rows are y from low to high, columns x.
    """
    centres = (torch.arange(points) + 0.5) / points * 2 * limit - limit
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([x, y], dim=-1).to(_device_of(model))
    return FlowDistribution(model, (2,)).log_prob(places).exp().cpu()


def _draw_density(axes: Axes, model: MultiscaleFlow, limit: float) -> None:
    density = density_on_grid(model, limit)
    extent = (-limit, limit, -limit, limit)
    axes.imshow(density.numpy(), extent=extent, origin="lower", cmap="magma")
    axes.set_title("learned density")


def _draw_trajectories(axes: Axes, model: MultiscaleFlow, points: Tensor) -> None:
    paths = trajectories(model, points)
    axes.plot(paths[..., 0].numpy(), paths[..., 1].numpy(), lw=0.8, color="tab:blue", alpha=0.7)
    axes.scatter(*paths[0].T.numpy(), s=8, color="black", label="data", zorder=3)
    axes.scatter(*paths[-1].T.numpy(), s=8, color="tab:orange", label="latent", zorder=3)
    axes.set(title="trajectories", aspect="equal")
    axes.legend(loc="upper right", fontsize="small")


def trajectories(model: MultiscaleFlow, points: Tensor) -> Tensor:
    """Paths from data to the latent variable through all blocks, ``(times, n, 2)``."""
    paths, x = [], model.enter(points.to(_device_of(model))).z
    for block in model.blocks:
        times = torch.linspace(0.0, block.end_time, _TIMES_IN_BLOCK)
        path = block.trajectory(x, times)
        paths.append(path)
        x = path[-1]
    return torch.cat(paths).cpu()


def _device_of(model: MultiscaleFlow) -> torch.device:
    return next(model.parameters(), torch.empty(0)).device
