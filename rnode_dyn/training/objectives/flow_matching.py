"""Training without solving: every block regresses on the velocity of straight paths."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from rnode_dyn.data.splits import Event
from rnode_dyn.fields.at_times import at_times
from rnode_dyn.fields.conditioned import conditioned
from rnode_dyn.flows.augmented_flow import Augmented
from rnode_dyn.flows.conditions import handed
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.normal_pieces import NormalPieces
from rnode_dyn.flows.path_choices import excluded_choice
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.share import drawn
from rnode_dyn.flows.straight_paths import Leg, legs
from rnode_dyn.training.objectives.base import (
    Loss,
    Objective,
    as_trained,
    with_labels_left_out,
)
from rnode_dyn.training.objectives.coupling import partners, squared_distances
from rnode_dyn.training.objectives.expected import (
    check_pixels,
    expected_velocity,
    pieces_of_pixels,
)
from rnode_dyn.training.objectives.times import Times, density_of_times, draw_times

Coupling = Literal["independent", "minibatch-ot"]
Weighting = Literal["even", "likelihood"]
Targets = Literal["drawn", "expected"]

_EARLIEST = 4e-4
"""Added to a time by which errors are divided, so that none counts without bound."""


@dataclass(frozen=True)
class FlowMatching(Objective):
    """Flow matching through all blocks of a multiscale flow at once.

    Data and noise are joined by straight lines (Lipman et al., Flow Matching, 2023; Tong et al.,
    2024). A coordinate that leaves after block e travels from its data value a to noise z within
    the first e blocks, so that it leaves as noise that is independent of all that stays; each
    block regresses f(t, x) on the velocity (z − a)/e of the coordinates that it sees. No ODE is
    solved, and the trained stack is the same density model as ever.

    Args:
        coupling: Which noise belongs to which image: drawn independently, or exchanged within
            the batch for the least squared distance. Only coordinates that go through all
            blocks are exchanged: one that leaves earlier would not be independent of the rest.
            Where several processes share a batch, or it is accumulated, each part exchanges within
            itself; under conditions, only samples that have the same one.
        times: How each block's times are drawn over the batch: uniformly; uniformly, one in each
            of equal intervals; from a logit-normal, which prefers the middle; or as squares of
            the second, which prefers the data's end, where thin shapes are told apart (Dax et
            al., Flow matching for scalable simulation-based inference, 2023).
        pace: What is left of a path at global time s is (1 − s/e)^pace: 1 goes at an even pace;
            more begins faster, nearer to the data, and arrives slower.
        weighting: How much errors at a time t from the data count: all the same, or by
            (1 − t)/(t + 0.0004), nearly as they count in the log-likelihood (Song et al., Maximum
            likelihood training of score-based diffusion models, 2021), however the times are
            drawn. A subclass with times of its own overrides ``density_of_times`` too.
        targets: What is regressed on: velocities with the noise that was drawn, or, for pixels
            behind :class:`~rnode_dyn.ThreeBells`, those that are expected given the pixels. Their
            mean is the same and they scatter less, most near the data.

    Raises:
        ValueError: if an argument is none of its kinds, or two exclude each other.

    Example:
        >>> import torch
        >>> from rnode_dyn import MLPField, RegularizedFlow, Scale
        >>> model = MultiscaleFlow((2,), [Scale([RegularizedFlow(MLPField(2))])])
        >>> loss = FlowMatching().loss(model, torch.randn(8, 2), Event((2,)))
        >>> loss.value.shape, list(loss.figures)
        (torch.Size([]), ['matching'])
        >>> flow = RegularizedFlow(MLPField(2, condition=3))
        >>> FlowMatching().loss(flow, torch.randn(8, 2), condition=torch.zeros(8, 3)).value.shape
        torch.Size([])
    """

    coupling: Coupling = "independent"
    times: Times = "stratified"
    pace: float = 1.0
    weighting: Weighting = field(default="even", kw_only=True)
    targets: Targets = field(default="drawn", kw_only=True)

    def __post_init__(self) -> None:
        if not 1 <= self.pace < math.inf:
            raise ValueError(
                f"pace is {self.pace}: below 1 the paths would arrive infinitely fast; write 1 or "
                "more."
            )
        names = {
            "coupling": Coupling,
            "times": Times,
            "weighting": Weighting,
            "targets": Targets,
        }
        for name, kinds in names.items():
            given = getattr(self, name)
            if given not in get_args(kinds):
                allowed = ", ".join(map(repr, get_args(kinds)))
                raise ValueError(f"{name} is {given!r}; write one of {allowed}.")
        reason = excluded_choice(self.coupling, self.times, self.weighting, self.targets)
        if reason is not None:
            raise ValueError(f"{reason[0]} is {getattr(self, reason[0])!r}, and {reason[1]}.")
        self._check_overridden()

    def _check_overridden(self) -> None:
        """Refuse a subclass's own times or noise where a choice counts on the class's."""
        own = {name for name in _HOOKS if getattr(type(self), name) is not _HOOKS[name]}
        if self.weighting == "likelihood" and own & _OF_TIMES == {"draw_times"}:
            raise ValueError(
                f"{type(self).__name__} draws times of its own, and weighting is 'likelihood', "
                "which divides by their density: override density_of_times too, or write "
                "weighting='even'."
            )
        for name, plain in (("weighting", "even"), ("targets", "drawn")):
            if "noise_for" in own and getattr(self, name) != plain:
                raise ValueError(
                    f"{type(self).__name__} has noise of its own, and {name} is "
                    f"{getattr(self, name)!r}, which counts on noise that is independent of the "
                    f"data: write {name}={plain!r}."
                )

    def loss(
        self,
        model: MultiscaleFlow | RegularizedFlow | Augmented,
        u: Tensor,
        event: Event | None = None,
        condition: Tensor | None = None,
    ) -> Loss:
        """Return the error of the velocities, in units of z − a.

        Evenly weighted, it is their mean square over the blocks; weighted as in the likelihood, a
        sum over the blocks in nats a dimension, and of blocks that a route leaves out it counts
        those that are there for them. The data of an augmented flow have noise beside them.
        """
        if self.targets == "expected":
            check_pixels(model, event)
        if isinstance(model, Augmented):
            u, model, event = model.joined(u)[0][0], model.flow, None
        model, event = as_trained(model, u, event)
        condition = model.enter_condition(with_labels_left_out(model, u, condition))
        with torch.no_grad():
            data = model.enter(u).z.flatten(1)
            route = self.route(model, data.device)
            noise = self.noise_for(model, data, condition)
            pieces = pieces_of_pixels(model, u, event) if self.targets == "expected" else None
        errors = [self._error(leg, data, noise, condition, pieces) for leg in route]
        errors = torch.stack(errors)
        value = errors.mean()
        if self.weighting == "likelihood":
            value = value * len(model.blocks)
        return Loss(value, {"matching": value.detach()})

    def noise_for(
        self, model: MultiscaleFlow, data: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """Return the noise at which each path ends, ``(batch, dimension)``.

        Args:
            model: The flow that is trained.
            data: Where the paths start, as the first block sees them, ``(batch, dimension)``.
            condition: A row a sample, as the blocks see it.
        """
        noise = drawn(torch.randn_like, data)
        if self.coupling == "independent":
            return noise
        return exchanged(data, noise, legs(model, data.device), condition)

    def route(self, model: MultiscaleFlow, device: torch.device) -> list[Leg]:
        """Return the paths' legs; a subclass may lay other paths, or leave blocks out of a step."""
        return legs(model, device, self.pace)

    def draw_times(self, leg: Leg, data: Tensor) -> Tensor:
        """Return a time in [0, 1] within the block for every sample, ``(batch,)``."""
        return drawn(lambda like: draw_times(self.times, like), data, axis=0)

    def density_of_times(self, leg: Leg, t: Tensor) -> Tensor:
        """Return the density at which :meth:`draw_times` draws, ``(batch,)``."""
        return density_of_times(self.times, t)

    def _error(
        self,
        leg: Leg,
        data: Tensor,
        noise: Tensor,
        condition: Tensor | None,
        pieces: NormalPieces | None,
    ) -> Tensor:
        t = self.draw_times(leg, data) * leg.flow.end_time
        x, velocity = leg.at(data, noise, t)
        if pieces is not None:
            velocity = expected_velocity(leg, x, t, pieces)
        field = conditioned(leg.flow.field, handed(leg.flow, condition).get("condition"), x)
        error = at_times(field, t, x) - velocity
        error = error * (leg.exits * leg.flow.end_time)
        if self.weighting == "even":
            return error.square().mean()
        return (error.square() * self._weights(leg, t)).flatten(1).sum(1).mean() / data.shape[1]

    def _weights(self, leg: Leg, t: Tensor) -> Tensor:
        """(1 − σ)/σ at the share σ of a path that lies behind, over the density of the shares."""
        left, speed = leg.progress(t)
        pace = (speed * (leg.exits * leg.flow.end_time)).clamp(min=torch.finfo(t.dtype).tiny)
        drawn = self.density_of_times(leg, t / leg.flow.end_time)
        density = drawn.reshape(-1, *[1] * leg.exits.ndim) * pace * leg.exits
        return left / (1 - left + _EARLIEST) / density


_OF_TIMES = {"draw_times", "density_of_times"}
_HOOKS = {name: getattr(FlowMatching, name) for name in (*_OF_TIMES, "noise_for")}
"""What a subclass may override that a weighting or targets may count on."""


def exchanged(
    data: Tensor, noise: Tensor, route: list[Leg], condition: Tensor | None = None
) -> Tensor:
    """Return the noise, exchanged within the batch for the shortest straight paths.

    Args:
        data: Starts of the paths, ``(batch, dimension)``.
        noise: Their ends, likewise.
        route: The legs of the paths: the last one's coordinates are exchanged.
        condition: A row a sample: noise that was chosen for its condition would not be independent
            of it, so that only samples under the same condition exchange theirs.
    """
    last = route[-1].coordinates.flatten()
    cost = squared_distances(data[:, last], noise[:, last])
    if condition is not None:
        rows = condition.detach().reshape(len(condition), -1)
        cost = cost.masked_fill((rows[:, None] != rows).any(2), math.inf)
    noise = noise.clone()
    noise[:, last] = noise[:, last][partners(cost)]
    return noise
