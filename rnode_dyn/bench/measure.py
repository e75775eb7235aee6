"""How fast this machine trains a model: a few steps on noise, timed."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from rnode_dyn.costs.cost import matching_flops
from rnode_dyn.costs.evaluations import node_costs, stage_cost
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.weights import first_weight
from rnode_dyn.numerics.seeding import random_state_kept
from rnode_dyn.training.objectives.base import Objective
from rnode_dyn.training.objectives.flow_matching import FlowMatching
from rnode_dyn.training.objectives.likelihood import Likelihood

_LONG_ENOUGH = 1.0
_GROWTH = 4
_TIMES = 5
_LONG = 3.0


@dataclass(frozen=True, order=True)
class Speed:
    """What was timed; the faster is the greater.

    Attributes:
        flops_per_second: Operations a second, loss and gradient.
        batch_size: Samples in the timed step.
        seconds: How long it took.
        device: Where it ran.
    """

    flops_per_second: float
    batch_size: int
    seconds: float
    device: str

    def in_words(self) -> str:
        """Return how it was measured."""
        return f"measured here ({self.device}), batch of {self.batch_size}, {self.seconds:.2g} s"


def device_for(accelerator: str) -> torch.device:
    """Return where a recipe's training would run on this machine: on a GPU where it may."""
    wants_gpu = accelerator in ("auto", "gpu", "cuda")
    return torch.device("cuda" if wants_gpu and torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Step:
    """A step of a training, or of an evaluation, to be timed.

    Attributes:
        model: The flow, on the device to time.
        event: What one sample looks like.
        objective: What is computed: the likelihood, or flow matching.
        autocast: The context of the loss, which says its precision.
        gradient: Whether the gradient is computed as well.
        optimizer: What moves the weights by it; nothing, when left out.
    """

    model: MultiscaleFlow
    event: Event
    objective: Objective = field(default_factory=Likelihood)
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    gradient: bool = True
    optimizer: Optimizer | None = None

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return first_weight(self.model).device

    def on(self, size: int) -> Callable[[], None]:
        """Return what takes a step on so many samples of noise."""
        device = self.device
        u = noise_like(self.event, size, device)
        given = condition_like(self.event, size, device)
        named = {} if given is None else {"condition": given}

        def loss() -> Tensor:
            with self.autocast(), torch.set_grad_enabled(self.gradient):
                value = self.objective.loss(self.model, u, self.event, **named).value
            if self.gradient:
                value.backward()
            return value

        def take() -> None:
            with torch.enable_grad():
                loss() if self.optimizer is None else self.optimizer.step(loss)  # type: ignore[arg-type]
            self.model.zero_grad()
            wait_for(device)

        return take

    def flops(self, size: int) -> int:
        """Return the operations of the last step, which was of so many samples."""
        if isinstance(self.objective, FlowMatching):
            return size * matching_flops(self.model)
        return _flops_of_last_step(self.model, size)


def measure_speed(
    model: MultiscaleFlow,
    event: Event,
    batch_size: int,
    objective: Objective | None = None,
    *,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    gradient: bool = True,
) -> Speed:
    """Time training steps on noise of the data's shape.

    The batch grows from one sample to the one asked for, until a step takes a second, so that
    large models are timed in reasonable time.

    Args:
        model: The flow, in training mode, on the device to time.
        event: What one sample looks like.
        batch_size: The largest batch to time.
        objective: The likelihood when left out, or flow matching.
        autocast: The context of the loss, which says its precision.
        gradient: Whether the gradient is timed as well.
    """
    step = Step(model, event, objective or Likelihood(), autocast, gradient)
    return speed_at(step, size_of_a_second(step, batch_size))


def size_of_a_second(step: Step, batch_size: int) -> int:
    """Return on how many samples a step takes a second; ``batch_size`` where it takes less."""
    with random_state_kept(step.device):
        _seconds(step.on(1))
        size = 1
        while size < batch_size and _seconds(step.on(size)) < _LONG_ENOUGH:
            size = min(batch_size, _GROWTH * size)
    return size


def speed_at(step: Step, size: int) -> Speed:
    """Time steps on so many samples.

    The first, which sets things up, does not count unless it is a long one: of the others, which
    may make other numbers of evaluations each, the one of median speed does.
    """

    def timed(take: Callable[[], None]) -> Speed:
        seconds = _seconds(take)
        return Speed(step.flops(size) / seconds, size, seconds, device_name(step.device))

    with random_state_kept(step.device):
        take = step.on(size)
        first, taken = timed(take), list[Speed]()
        spent = first.seconds
        while len(taken) < _TIMES and spent < _LONG:
            taken.append(timed(take))
            spent += taken[-1].seconds
    return median_low(taken or [first])


def _seconds(take: Callable[[], None]) -> float:
    start = time.perf_counter()
    take()
    return time.perf_counter() - start


def _flops_of_last_step(model: MultiscaleFlow, batch_size: int) -> int:
    """Count by the evaluations that were made, which with adaptive steps only the step tells."""
    total = 0
    for station in model.walk():
        block, stats = (station.flow, station.shape, batch_size), station.flow.stats
        cost, at_nodes = stage_cost(*block), node_costs(*block)
        nodes = sum(node.count for node in at_nodes)
        total += cost.flops * (stats.nfe - nodes + stats.nfe_backward)
        total += cost.gradient_flops * (stats.nvjp - nodes)
        each = [(n.count, n.evaluation.flops + n.evaluation.gradient_flops) for n in at_nodes]
        total += sum(count * flops for count, flops in each)
    return total


def noise_like(event: Event, count: int, device: torch.device) -> Tensor:
    """Return noise of the data's shape: uniform for pixels, Gaussian for what is continuous."""
    draw = torch.randn if event.levels is None else torch.rand
    return draw(count, *event.shape, device=device)


def condition_like(event: Event, count: int, device: torch.device) -> Tensor | None:
    """Return conditions such as the data have, all zero; ``None`` where they have none.

    Example:
        >>> condition_like(Event((2,), classes=3), 2, torch.device("cpu"))
        tensor([0, 0])
    """
    if event.classes is not None:
        return torch.zeros(count, dtype=torch.long, device=device)
    return None if event.columns is None else torch.zeros(count, event.columns, device=device)


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.get_device_module(device).synchronize()


def device_name(device: torch.device) -> str:
    """Return what a device is, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
