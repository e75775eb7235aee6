"""Training one flow through several marginals in time: cells, sediments, prices at some dates."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from rnode_dyn.fields.at_times import at_times
from rnode_dyn.fields.mlp import MLPField
from rnode_dyn.flows.conditions import takes_condition
from rnode_dyn.flows.given import check_kind
from rnode_dyn.flows.multiscale import MultiscaleFlow, as_multiscale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.numerics.numbers import as_number, whole
from rnode_dyn.training.objectives.base import Loss
from rnode_dyn.training.objectives.coupling import partners, squared_distances

Pairs = Literal["independent", "minibatch-ot"]
Paths = Literal["straight", "spline"]
_BLURS = 1e-2


@dataclass(frozen=True)
class Snapshots:
    """Flow matching between samples of one population at several times.

    Which sample of one time becomes which of the next is not known. They are paired at random, or
    for the least squared distance within a batch (Tong et al., 2024), and so chained through all
    times. Within each interval the field regresses on the velocity of the paths through them:
    straight from one to the next, or natural cubic splines through the whole chain (Rohbeck et al.,
    2025), which bend smoothly where straight ones have corners. No ODE is solved, and penalties
    have no part in it; ``flow.between(x, t0, t1)`` then carries samples from any time to another.

    Args:
        times: When the snapshots were taken, in order, two or more; in the time of the flow's
            field, which is one for all of them.
        pairs: How samples of successive times are paired.
        paths: How those of a chain are joined.
        batch: How many chains are drawn for a loss, each sample with replacement.

    Raises:
        TypeError: if ``times`` is no list of numbers.
        ValueError: if a name is none of these, or ``times`` are not in order.

    Example:
        >>> from rnode_dyn import MLPField
        >>> flow = RegularizedFlow(MLPField(2))
        >>> early, middle, late = torch.randn(50, 2), torch.randn(70, 2) + 1, torch.randn(60, 2) + 2
        >>> loss = Snapshots([0.0, 0.4, 1.0]).loss(flow, [early, middle, late])
        >>> loss.value.shape, list(loss.figures)
        (torch.Size([]), ['matching'])
    """

    times: Sequence[float]
    pairs: Pairs = "minibatch-ot"
    paths: Paths = "straight"
    batch: int = 256

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", _checked_times(self.times))
        for name, kinds in (("pairs", Pairs), ("paths", Paths)):
            given = getattr(self, name)
            if given not in get_args(kinds):
                allowed = ", ".join(map(repr, get_args(kinds)))
                raise ValueError(f"{name} is {given!r}; write one of {allowed}.")
        object.__setattr__(self, "batch", whole("Snapshots", "batch", self.batch))

    def loss(self, flow: MultiscaleFlow | RegularizedFlow, snapshots: Sequence[Tensor]) -> Loss:
        """Return the mean squared error of the velocities, times each interval's length.

        Args:
            flow: The flow, of one block: its field is for all the time.
            snapshots: Samples at each of the times, ``(any number, *event)``.

        Raises:
            TypeError: if the flow is of another kind, or a snapshot is no floating tensor.
            ValueError: if there are not as many as times, or their shapes do not fit; or the flow
                has several blocks or takes a condition; or its precision cannot tell times apart.
        """
        self._check_count(snapshots)
        _check_snapshots(snapshots, flow)
        block, enter = _only_block(flow, snapshots[0].shape[1:])
        with torch.no_grad():
            chains = self.chained([enter(x).z for x in snapshots])
            _check_resolved(self.times, chains)
            time, place, velocity = self.drawn_from(chains)
        lengths = _lengths(self.times, chains).repeat_interleave(chains.shape[1])
        error = at_times(block.field, time, place) - velocity
        value = (error.flatten(1) * lengths[:, None]).square().mean()
        return Loss(value, {"matching": value.detach()})

    def chained(self, snapshots: Sequence[Tensor]) -> Tensor:
        """Draw chains of samples through all times, ``(len(times), batch, *event)``."""
        rows: list[Tensor] = []
        for x in snapshots:
            drawn = x[torch.randint(len(x), (self.batch,), device=x.device)]
            if rows and self.pairs == "minibatch-ot":
                drawn = drawn[partners(squared_distances(rows[-1], drawn))]
            rows.append(drawn)
        return torch.stack(rows)

    def drawn_from(self, chains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a time in every interval for every chain, and say where its path is and how fast.

        Returns:
            Times ``(intervals · batch,)``, and places and velocities, ``(intervals · batch,
            *event)``, interval by interval.
        """
        intervals, batch = len(self.times) - 1, chains.shape[1]
        within = torch.rand(intervals, batch, dtype=chains.dtype, device=chains.device)
        starts = chains.new_tensor(self.times[:-1])[:, None]
        lengths = _lengths(self.times, chains)
        time = starts + within * lengths[:, None]
        if self.paths == "spline":
            return time.flatten(), *self._on_splines(chains, time)
        wide = within.view(intervals, batch, *[1] * (chains.dim() - 2))
        velocity = (chains[1:] - chains[:-1]) / lengths.view(-1, *[1] * (chains.dim() - 1))
        place = torch.lerp(chains[:-1], chains[1:], wide)
        return time.flatten(), place.flatten(0, 1), velocity.flatten(0, 1)

    def _on_splines(self, chains: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """A spline is linear in what it goes through: weigh the samples of a chain."""
        each = CubicSpline(self.times, torch.eye(len(self.times)).numpy(), bc_type="natural")
        at = time.double().cpu().numpy()
        place, velocity = (
            torch.einsum("ibk,kb...->ib...", torch.from_numpy(each(at, order)).to(chains), chains)
            for order in (0, 1)
        )
        return place.flatten(0, 1), velocity.flatten(0, 1)

    def _check_count(self, snapshots: Any) -> None:
        if not isinstance(snapshots, Sequence) or len(snapshots) != len(self.times):
            is_list = isinstance(snapshots, Sequence)
            given = len(snapshots) if is_list else f"a {type(snapshots).__name__}"
            raise ValueError(
                f"snapshots are {given}, and times are {len(self.times)}: write a list with the "
                "samples of each time."
            )


def _check_snapshots(snapshots: Sequence[Tensor], flow: nn.Module) -> None:
    for number, x in enumerate(snapshots):
        check_kind(x, flow.parameters())
        if x.dim() < 2 or not len(x) or x.shape[1:] != snapshots[0].shape[1:]:
            raise ValueError(
                f"snapshot {number} has shape {tuple(x.shape)} and the first "
                f"{tuple(snapshots[0].shape)}: each holds samples of one shape, (n, *event)."
            )
        if not bool(x.isfinite().all()):
            raise ValueError(
                f"snapshot {number} holds numbers that are not finite: leave them out."
            )


def _only_block(
    flow: MultiscaleFlow | RegularizedFlow, shape: Sequence[int]
) -> tuple[RegularizedFlow, Callable[[Tensor], FlowResult]]:
    """The block whose field is trained, and the map of data to its states."""
    model = as_multiscale(flow, shape)
    stations = list(model.walk())
    if len(stations) != 1 or stations[0].shape != tuple(shape):
        raise ValueError(
            f"the flow has {len(stations)} blocks in {len(model.scales)} scales, and one field is "
            "for all the time: write one block, without squeezes."
        )
    field = stations[0].flow.field
    if isinstance(field, MLPField) and field.dim != tuple(shape):
        raise ValueError(
            f"the snapshots hold samples of shape {tuple(shape)}, and the flow's field takes "
            f"{field.dim}: build it for {tuple(shape)}."
        )
    if takes_condition(model):
        raise ValueError("the flow takes a condition, and snapshots have none: leave it out.")
    return stations[0].flow, model.enter


def _lengths(times: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(times, dtype=torch.float64).diff().to(like)


def _check_resolved(times: Sequence[float], like: Tensor) -> None:
    """Refuse times that the field's precision cannot tell apart within an interval."""
    rounding = torch.finfo(like.dtype).eps * max(map(abs, times))
    if rounding > _BLURS * min(b - a for a, b in pairwise(times)):
        raise ValueError(
            f"times are {times}, which {like.dtype} cannot tell apart within an interval: count "
            "them from the first on, and scale them to about 1."
        )


def _checked_times(given: Any) -> tuple[float, ...]:
    try:
        times = [as_number(t) for t in given]
    except TypeError:
        times = [None]
    if None in times:
        raise TypeError(f"times is {given!r}; write when each snapshot was taken: [0.0, 0.5, 1.0].")
    known = tuple(float(t) for t in times if t is not None)
    if len(known) < 2 or any(not 0 < b - a < math.inf for a, b in pairwise(known)):
        raise ValueError(f"times is {given!r}; write two or more, in order: [0.0, 0.5, 1.0].")
    return known
