"""Pictures for notebooks and scripts: of a flow in the plane, of samples, of trainings.

Every function draws into ``ax``, one of matplotlib's axes, and returns it; without one it makes a
new figure. Flows are drawn as they are in evaluation. A flow may be given as a ``MultiscaleFlow``,
a ``RegularizedFlow``, a ``FlowDistribution``, or a run: from ``load_run`` or ``run``.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from torch import Tensor, nn

from rnode_dyn.data.splits import Event
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.multiscale import MultiscaleFlow, Scale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.recipe.build import describe_event
from rnode_dyn.report import curves, plane
from rnode_dyn.report import pareto as fronts
from rnode_dyn.report.canvas import grid
from rnode_dyn.report.grids import draw_samples
from rnode_dyn.runs.columns import HELD_OUT, Against
from rnode_dyn.runs.find import find_run
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import RunRecord, labels, read_record
from rnode_dyn.runs.run import Run, load_run

__all__ = ["density", "field", "pareto", "samples", "training_curve", "trajectories"]

_POINTS = 1000
_SIDE = 32


@torch.no_grad()
def density(
    flow: Any,
    data: Tensor | None = None,
    *,
    limit: float | None = None,
    condition: Tensor | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a flow's density over a square of the plane.

    Args:
        flow: A flow of points (x, y).
        data: Points ``(n, 2)`` that the square has to hold with their paths; left out, samples.
            Given the same, :func:`trajectories` and :func:`field` have the same square.
        limit: Half the square's side instead, as the flow's blocks see it.
        condition: Of a conditional flow, that of all that is drawn: a label, or a vector.
        ax: Where to draw.

    Example:
        >>> import torch
        >>> from rnode_dyn import MLPField, RegularizedFlow, plot
        >>> flow = RegularizedFlow(MLPField(2, hidden=(8,)))
        >>> plot.density(flow, torch.randn(100, 2)).get_title()
        'learned density'
    """
    with _in_plane(flow, data, limit, condition) as (model, _, limit), _axes(ax) as axes:
        plane.add_density(axes, model, limit, _rows(condition, 1))
        plane.set_frame(axes, model, limit)
    return axes


@torch.no_grad()
def trajectories(
    flow: Any,
    data: Tensor | None = None,
    *,
    limit: float | None = None,
    condition: Tensor | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the paths of the first 60 points to the latent variable, through all blocks.

    Args:
        flow: A flow of points (x, y).
        data: Points ``(n, 2)``; left out, samples of the flow.
        limit: As in :func:`density`.
        condition: As in :func:`density`.
        ax: Where to draw.
    """
    with _in_plane(flow, data, limit, condition) as (model, points, limit), _axes(ax) as axes:
        plane.add_trajectories(axes, model, points, _rows(condition, len(points)))
        plane.set_frame(axes, model, limit)
    return axes


@torch.no_grad()
def field(
    flow: Any,
    t: float = 0.0,
    data: Tensor | None = None,
    *,
    block: int = 0,
    limit: float | None = None,
    condition: Tensor | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the field of one block at a time as arrows, coloured by their speed.

    Args:
        flow: A flow of points (x, y).
        t: The time.
        data: As in :func:`density`.
        block: Number of the block, from 0.
        limit: As in :func:`density`.
        condition: As in :func:`density`.
        ax: Where to draw.

    Raises:
        ValueError: if there is no such block.
    """
    with _in_plane(flow, data, limit, condition) as (model, _, limit), _axes(ax) as axes:
        if not 0 <= block < len(model.blocks):
            raise ValueError(f"block is {block}; the flow has blocks 0 to {len(model.blocks) - 1}.")
        plane.add_field(axes, model, block, t, limit, condition)
        plane.set_frame(axes, model, limit)
    return axes


def samples(
    flow: Any,
    count: int = 64,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    condition: Tensor | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw samples: points of the plane, or a grid of images.

    Args:
        flow: A flow of points or images; or samples themselves, points ``(n, 2)`` or images
            between 0 and 1, ``(n, channels, height, width)``, which are all drawn.
        count: How many.
        temperature: Standard deviation of the latent variable.
        seed: Seed of the latent variable.
        condition: Of a conditional flow, that of all samples; left out, of a run with classes
            each in turn.
        ax: Where to draw.

    Raises:
        ValueError: if they are neither.
    """
    drawn = flow if isinstance(flow, Tensor) else _drawn(flow, count, temperature, seed, condition)
    points = drawn.dim() == 2 and drawn.shape[1] == 2
    if not points and drawn.dim() != 4:
        raise ValueError(
            f"samples of shape {tuple(drawn.shape[1:])} are neither points (2,) nor images "
            "(channels, height, width): choose two columns, and give them as a tensor (n, 2)."
        )
    with _axes(ax) as axes:
        if points:
            plane.add_points(axes, drawn)
            axes.set_aspect("equal")
        else:
            columns = math.ceil(math.sqrt(len(drawn)))
            axes.imshow(grid(drawn.detach().cpu(), columns, _SIDE))
            axes.set_axis_off()
        axes.set_title("samples")
    return axes


def training_curve(
    runs: Any, *, figure: str = HELD_OUT, against: Against = "seconds", ax: Axes | None = None
) -> Axes:
    """Draw a figure of one or several trainings.

    Args:
        runs: A run, its folder, or several of either.
        figure: A column of ``metrics.csv``.
        against: ``"seconds"`` or ``"steps"``.
        ax: Where to draw.

    Raises:
        ValueError: if no run has that figure.
    """
    records, x = _records(runs), curves.COLUMNS[against]
    if not any(run.curve(x, figure) for run in records):
        known = sorted({name for run in records for row in run.metrics for name in row})
        raise ValueError(f"no run has {figure} against {against}; there are {', '.join(known)}.")
    with _axes(ax) as axes:
        curves.add_legend(axes, curves.draw_curves(axes, records, x, figure))
        axes.set_xlabel(curves.X_LABELS[against])
        axes.set_ylabel(curves.HELD_OUT_LABEL if figure == HELD_OUT else figure)
        axes.set_xscale(curves.x_scale(records, x))
    return axes


def pareto(
    runs: Any, *, x: str = "nfe_forward", y: str = "bits_per_dim", ax: Axes | None = None
) -> Axes:
    """Draw two figures of finished runs against each other, and the front where neither gets lower.

    Args:
        runs: Several runs, or their folders.
        x: A figure of ``summary.json``, the lower the better.
        y: Another one; its standard error is drawn where there is one.
        ax: Where to draw.

    Raises:
        ValueError: if a run has not these figures, by its name.
    """
    records = _records(runs)
    with _axes(ax) as axes:
        fronts.draw_pareto(axes, records, labels(records), x, y)
    return axes


@contextmanager
def _axes(ax: Axes | None) -> Iterator[Axes]:
    yield pyplot.figure(layout="constrained").subplots() if ax is None else ax


@contextmanager
def _in_plane(
    flow: Any, data: Tensor | None, limit: float | None, condition: Tensor | None = None
) -> Iterator[tuple[MultiscaleFlow, Tensor, float]]:
    """The flow as it is in evaluation, points to draw it by, and the frame that holds them."""
    model = _model_of(flow, (2,))
    if model.event_shape != (2,):
        raise ValueError(
            f"this draws flows of points (2,), and the flow's samples are {model.event_shape}: "
            "plot.samples draws images."
        )
    with _evaluating(model):
        if data is None:
            data = draw_samples(model, Event((2,)), _POINTS, 1.0, 0, condition)
        if limit is None:
            limit = plane.limit_of(model, data, _rows(condition, len(data)))
        yield model, data, limit


def _rows(condition: Tensor | None, count: int) -> Tensor | None:
    """The same condition for each of some points."""
    return None if condition is None else condition.expand(count, *condition.shape)


def _drawn(
    flow: Any, count: int, temperature: float, seed: int, condition: Tensor | None
) -> Tensor:
    shape = tuple(flow.event_shape) if isinstance(flow, FlowDistribution) else (2,)
    model, run = _model_of(flow, shape), _run_of(flow)
    levels = 256 if len(model.event_shape) == 3 else None
    event = Event(model.event_shape, levels) if run is None else describe_event(run.recipe)
    with _evaluating(model):
        return draw_samples(model, event, count, temperature, seed, condition)


def _model_of(flow: Any, shape: tuple[int, ...]) -> MultiscaleFlow:
    run = _run_of(flow)
    found = run.flow if run is not None else flow
    found = found.model if isinstance(found, FlowDistribution) else found
    if isinstance(found, RegularizedFlow):
        return MultiscaleFlow(shape, [Scale([found])]).train(found.training)
    if isinstance(found, MultiscaleFlow):
        return found
    raise TypeError(
        f"a {type(found).__name__} is no flow: give a MultiscaleFlow, a RegularizedFlow, a "
        "FlowDistribution or a run."
    )


def _run_of(flow: Any) -> Run | None:
    if isinstance(flow, Run):
        return flow
    folder = None if isinstance(flow, nn.Module) else getattr(flow, "folder", None)
    return load_run(folder) if isinstance(folder, Path) else None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _records(runs: Any) -> list[RunRecord]:
    several = runs if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    if not several:
        raise ValueError("there is no run to draw: give one or several.")
    return [_record(run) for run in several]


def _record(run: Any) -> RunRecord:
    if isinstance(run, RunRecord):
        return run
    folder = getattr(run, "folder", run)
    return read_record(folder if isinstance(folder, RunFolder) else find_run(folder))
