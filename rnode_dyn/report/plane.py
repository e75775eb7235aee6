"""A two-dimensional flow as a picture: data, learned density, trajectories."""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rnode_dyn.flows.conditions import handed
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.multiscale import MultiscaleFlow

_GRID = 200
_PATHS = 60
_TIMES_IN_BLOCK = 25


@torch.no_grad()
def draw_plane(
    model: MultiscaleFlow, data: Tensor, path: Path, condition: Tensor | None = None
) -> None:
    """Write data, density and trajectories side by side.

    Args:
        model: A flow of points (x, y).
        data: Points, ``(n, 2)``.
        path: The picture's file.
        condition: Of a conditional flow, the points' conditions, a row each or more. The density
            is the mean over the classes, or that under the first of the vectors.
    """
    limit = 1.25 * float(model.enter(data.to(_device_of(model))).z.abs().max())
    frame = in_own_units(model, torch.tensor([[-limit, -limit], [limit, limit]])).T
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.scatter(*data[:4000].T.numpy(), s=1, alpha=0.5, color="black")
    left.set_title("data")
    _draw_density(middle, model, limit, _shown(condition))
    given = None if condition is None else condition[:_PATHS]
    _draw_trajectories(right, model, data[:_PATHS], given)
    # Lengths along the axes compare where their units are the same.
    aspect = "equal" if frame.diff().unique().numel() == 1 else "auto"
    for axes in (left, middle, right):
        axes.set_aspect(aspect)
    for axes in (left, middle):
        axes.set(xlim=frame[0].tolist(), ylim=frame[1].tolist())
    figure.savefig(path, dpi=110)


def _shown(condition: Tensor | None) -> Tensor | None:
    """The conditions whose densities are shown: each label, or the first vector."""
    if condition is None:
        return None
    return condition[:1] if condition.is_floating_point() else condition.unique()


def density_on_grid(
    model: MultiscaleFlow, limit: float, points: int = _GRID, condition: Tensor | None = None
) -> Tensor:
    """Density at the centres of a square grid's cells over [−limit, limit]².

    Of a flow that standardises its data first, these are standardised units; the densities are
    those of the data in their own. Of a conditional flow it is the mean under some conditions.

    Returns:
        Densities, ``(points, points)``: rows are y from low to high, columns x.
    """
    centres = (torch.arange(points) + 0.5) / points * 2 * limit - limit
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    places = in_own_units(model, torch.stack([x, y], dim=-1).reshape(-1, 2))
    distribution = FlowDistribution(model, (2,))
    if condition is None:
        density = distribution.log_prob(places).double().exp()
    else:
        given = distribution.given(condition.to(places.device)[:, None])
        density = given.log_prob(places).double().exp().mean(0)
    return density.reshape(points, points).cpu()


def in_own_units(model: MultiscaleFlow, places: Tensor) -> Tensor:
    """Bring places ``(n, 2)`` as the blocks see them back to the data's units."""
    return model.preprocess.generate(places.to(_device_of(model)))


def _draw_density(
    axes: Axes, model: MultiscaleFlow, limit: float, condition: Tensor | None
) -> None:
    density = density_on_grid(model, limit, condition=condition)
    low, high = in_own_units(model, torch.tensor([[-limit, -limit], [limit, limit]])).tolist()
    extent = (low[0], high[0], low[1], high[1])
    axes.imshow(density.numpy(), extent=extent, origin="lower", cmap="magma")
    axes.set_title("learned density" if condition is None else _words(condition))


def _words(condition: Tensor) -> str:
    if not condition.is_floating_point():
        return "learned density, mean over the classes"
    return f"learned density given {', '.join(f'{number:.3g}' for number in condition[0].tolist())}"


def _draw_trajectories(
    axes: Axes, model: MultiscaleFlow, points: Tensor, condition: Tensor | None
) -> None:
    paths = trajectories(model, points, condition)
    axes.plot(paths[..., 0].numpy(), paths[..., 1].numpy(), lw=0.8, color="tab:blue", alpha=0.7)
    axes.scatter(*paths[0].T.numpy(), s=8, color="black", label="data", zorder=3)
    axes.scatter(*paths[-1].T.numpy(), s=8, color="tab:orange", label="latent", zorder=3)
    axes.set(title="trajectories")
    axes.legend(loc="upper right", fontsize="small")


def trajectories(model: MultiscaleFlow, points: Tensor, condition: Tensor | None = None) -> Tensor:
    """Paths from data to the latent variable through all blocks, ``(times, n, 2)``.

    They are in the data's own units, the latent variable too.
    """
    device = _device_of(model)
    paths, x = [], model.enter(points.to(device)).z
    given = model.enter_condition(None if condition is None else condition.to(device))
    for block in model.blocks:
        times = torch.linspace(0.0, block.end_time, _TIMES_IN_BLOCK)
        path = block.trajectory(x, times, **handed(block, given))
        paths += [in_own_units(model, places) for places in path]
        x = path[-1]
    return torch.stack(paths).cpu()


def _device_of(model: MultiscaleFlow) -> torch.device:
    return next(model.parameters(), torch.empty(0)).device
