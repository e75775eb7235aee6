"""A two-dimensional flow as a picture: data, learned density, trajectories."""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from rnode_dyn.flows.conditions import handed
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.weights import first_weight

_GRID = 200
_PATHS = 60
_POINTS = 4000
_TIMES_IN_BLOCK = 25
_ARROWS = 20
# What surrounds the outermost point or path.
_MARGIN = 1.1
_BLUE, _ORANGE = "#0072B2", "#D55E00"


@torch.no_grad()
def draw_plane(
    model: MultiscaleFlow, data: Tensor, path: Path, condition: Tensor | None = None
) -> None:
    """Write data, density and trajectories side by side, all on one scale.

    Args:
        model: A flow of points (x, y).
        data: Points, ``(n, 2)``.
        path: The picture's file.
        condition: Of a conditional flow, the points' conditions, a row each or more. The density
            is the mean over the classes, or that under the first of the vectors.
    """
    limit = limit_of(model, data, condition)
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, middle, right = panels = figure.subplots(1, 3, sharex=True, sharey=True)
    add_points(left, data[:_POINTS])
    left.set_title("data")
    add_density(middle, model, limit, conditions_shown(condition))
    add_trajectories(right, model, data, condition)
    for axes in panels:
        set_frame(axes, model, limit)
    figure.savefig(path, dpi=110)


@torch.no_grad()
def draw_points(data: Tensor | None, samples: Tensor, path: Path) -> None:
    """Write samples as points, beside data where they are there, on one scale.

    Args:
        data: Points, ``(n, 2)``; left out, there is no panel of them.
        samples: What was drawn, ``(m, 2)``.
        path: The picture's file.
    """
    panels = {"samples": samples} if data is None else {"data": data, "samples": samples}
    figure = Figure(figsize=(4.2 * len(panels), 4.4), layout="constrained")
    row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, points) in zip(row, panels.items(), strict=True):
        add_points(axes, points[:_POINTS])
        axes.set_title(title)
    figure.savefig(path, dpi=110)


@torch.no_grad()
def limit_of(model: MultiscaleFlow, points: Tensor, condition: Tensor | None = None) -> float:
    """Return half the side of the square that points and their paths to the latent lie in.

    Of a flow that standardises its data first, it is in standardised units.
    """
    paths = _states(model, points[:_PATHS], _first(condition))
    there = model.enter(points.to(first_weight(model).device)).z.abs().max()
    return _MARGIN * float(torch.maximum(there, paths.abs().max()))


def set_frame(axes: Axes, model: MultiscaleFlow, limit: float) -> None:
    """Show the square of that limit, in the data's own units."""
    x0, x1, y0, y1 = _extent(model, limit)
    # Lengths along the axes compare where their units are the same.
    axes.set_aspect("equal" if x1 - x0 == y1 - y0 else "auto")
    axes.set(xlim=(x0, x1), ylim=(y0, y1))


def add_points(axes: Axes, points: Tensor) -> None:
    """Draw points ``(n, 2)``, the fewer the larger."""
    size = min(12.0, max(1.0, 4000 / max(1, len(points))))
    axes.scatter(*points.detach().cpu().T.numpy(), s=size, alpha=0.5, color="black", linewidths=0)


def density_on_grid(
    model: MultiscaleFlow, limit: float, points: int = _GRID, condition: Tensor | None = None
) -> Tensor:
    """Density at the centres of a square grid's cells over [−limit, limit]².

    Of a flow that standardises its data first, these are standardised units; the densities are
    those of the data in their own. Of a conditional flow it is the mean under some conditions.

    Returns:
        Densities, ``(points, points)``: rows are y from low to high, columns x.
    """
    places = in_own_units(model, _centres(limit, points))
    distribution = FlowDistribution(model, (2,))
    if condition is None:
        density = distribution.log_prob(places).double().exp()
    else:
        given = distribution.given(condition.to(places.device)[:, None])
        density = given.log_prob(places).double().exp().mean(0)
    return density.reshape(points, points).cpu()


def in_own_units(model: MultiscaleFlow, places: Tensor) -> Tensor:
    """Bring places ``(n, 2)`` as the blocks see them back to the data's units."""
    return model.preprocess.generate(places.to(first_weight(model).device))


def add_density(
    axes: Axes, model: MultiscaleFlow, limit: float, condition: Tensor | None = None
) -> None:
    """Draw the learned density over the square of that limit, the mean under some conditions."""
    density = density_on_grid(model, limit, condition=condition)
    axes.imshow(density.numpy(), extent=_extent(model, limit), origin="lower", cmap="magma")
    axes.set_title("learned density" if condition is None else _words(condition))


def conditions_shown(condition: Tensor | None) -> Tensor | None:
    """The conditions whose densities are shown: each label, or the first vector."""
    if condition is None:
        return None
    return condition[:1] if condition.is_floating_point() else condition.unique()


def _words(condition: Tensor) -> str:
    if condition.is_floating_point():
        numbers = ", ".join(f"{number:.3g}" for number in condition[0].tolist())
        return f"learned density given {numbers}"
    if len(condition) == 1:
        return f"learned density given {condition.item()}"
    return "learned density, mean over the classes"


def add_trajectories(
    axes: Axes, model: MultiscaleFlow, points: Tensor, condition: Tensor | None = None
) -> None:
    """Draw the paths of the first points to the latent variable."""
    paths = trajectories(model, points[:_PATHS], _first(condition))
    axes.plot(paths[..., 0].numpy(), paths[..., 1].numpy(), lw=0.8, color=_BLUE, alpha=0.7)
    axes.scatter(*paths[0].T.numpy(), s=8, color="black", label="data", zorder=3)
    axes.scatter(*paths[-1].T.numpy(), s=8, color=_ORANGE, label="latent", zorder=3)
    axes.set_title("trajectories")
    axes.legend(loc="upper right", fontsize="small")


def add_field(
    axes: Axes,
    model: MultiscaleFlow,
    block: int,
    t: float,
    limit: float,
    condition: Tensor | None = None,
) -> None:
    """Draw the arrows of a block's field at a time, under one condition, over that square."""
    places = _centres(limit, _ARROWS).to(first_weight(model))
    rows = None if condition is None else condition.expand(len(places), *condition.shape)
    given = model.enter_condition(None if rows is None else rows.to(places.device))
    flow = model.blocks[block]
    slopes = flow.field(places.new_tensor(t), places, **handed(flow, given))
    start, tip = (in_own_units(model, x).cpu() for x in (places, places + slopes))
    speed = slopes.norm(dim=-1).cpu().numpy()
    arrows = (tip - start).T.numpy()
    scale = None if arrows.any() else 1.0  # a field that is zero has no length to scale by
    axes.quiver(*start.T.numpy(), *arrows, speed, angles="xy", cmap="viridis", scale=scale)
    axes.set_title(f"field at t = {t:g}")


def trajectories(model: MultiscaleFlow, points: Tensor, condition: Tensor | None = None) -> Tensor:
    """Paths from data to the latent variable through all blocks, ``(times, n, 2)``.

    They are in the data's own units, the latent variable too.
    """
    paths = [in_own_units(model, places) for places in _states(model, points, condition)]
    return torch.stack(paths).cpu()


def _states(model: MultiscaleFlow, points: Tensor, condition: Tensor | None) -> Tensor:
    """The same as the blocks see them, on the model's device."""
    device = first_weight(model).device
    paths, x = [], model.enter(points.to(device)).z
    given = model.enter_condition(None if condition is None else condition.to(device))
    for block in model.blocks:
        times = torch.linspace(0.0, block.end_time, _TIMES_IN_BLOCK)
        path = block.trajectory(x, times, **handed(block, given))
        paths.append(path)
        x = path[-1]
    return torch.cat(paths)


def _first(condition: Tensor | None) -> Tensor | None:
    return None if condition is None else condition[:_PATHS]


def _centres(limit: float, points: int) -> Tensor:
    """Centres of a square grid's cells over [−limit, limit]², ``(points², 2)``, x running first."""
    centres = (torch.arange(points) + 0.5) / points * 2 * limit - limit
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def _extent(model: MultiscaleFlow, limit: float) -> tuple[float, float, float, float]:
    """The square of that limit in the data's own units: from x to x, from y to y."""
    low, high = in_own_units(model, torch.tensor([[-limit, -limit], [limit, limit]])).tolist()
    return low[0], high[0], low[1], high[1]
