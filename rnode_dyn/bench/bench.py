"""How fast this machine trains a recipe: steps of every kind, timed in turns."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor

from rnode_dyn.bench.machine import as_trained, chooses_threads, piece_size
from rnode_dyn.bench.measure import condition_like, device_name, noise_like, wait_for
from rnode_dyn.costs.pieces import differentiated_by
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.threads import faster_threads
from rnode_dyn.recipe.build import SENSITIVITIES, describe_event
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.training.loop.pieces import loss_in_pieces
from rnode_dyn.training.objectives.base import Objective
from rnode_dyn.training.objectives.flow_matching import FlowMatching
from rnode_dyn.training.objectives.likelihood import Likelihood

OWN = "likelihood"


@dataclass(frozen=True)
class Timing:
    """What a step of one kind took.

    Attributes:
        name: The kind.
        seconds: Of one step, the median over the rounds.
        relative: Seconds over those of the recipe's own likelihood step in the same round, the
            median over the rounds.
        evaluations: Evaluations of the fields that it made, forward.
        evaluations_backward: The same for its gradient.
    """

    name: str
    seconds: float
    relative: float
    evaluations: int
    evaluations_backward: int


@dataclass(frozen=True)
class Bench:
    """The timings, and of what.

    Attributes:
        batch_size: Samples in a step.
        device: Where it ran.
        precision: Lightning's name of the precision.
        rounds: How often each kind was timed.
        steps: The timings, the recipe's own likelihood step first.
    """

    batch_size: int
    device: str
    precision: str
    rounds: int
    steps: list[Timing]


def bench(recipe: Recipe, batch_size: int | None = None, rounds: int = 5) -> Bench:
    """Time a step of the likelihood under every sensitivity, a pass forward, and one of matching.

    A step is the loss and its gradient, on noise of the data's shape; the optimizer is left out.
    The likelihood's steps are taken in pieces where the recipe takes them so. Kinds take turns, so
    that what else the machine does falls on all alike; the first turn of each, which sets things
    up, does not count.

    Args:
        recipe: The recipe; its data are not read.
        batch_size: Samples in a step; left out, the recipe's.
        rounds: How often to time each kind.

    Raises:
        RecipeError: if this machine has not the device that the recipe asks for.

    Example:
        >>> from rnode_dyn import load_recipe
        >>> timings = bench(load_recipe("quickstart"), batch_size=2, rounds=1).steps
        >>> timings[0].name, timings[0].relative
        ('likelihood', 1.0)
    """
    count = batch_size or recipe.data.batch_size
    event = describe_event(recipe)
    with as_trained(recipe, event) as (model, fabric):
        kinds = _kinds(model, event, count, fabric, piece_size(recipe, model, count))
        if chooses_threads(recipe, fabric.device):
            torch.set_num_threads(faster_threads(kinds[OWN]))
        taken = _in_turns(kinds, rounds + 1)
        device = device_name(fabric.device)
    own = [turn.seconds for turn in taken[OWN][1:]]
    steps = [_timing(name, turns[1:], own) for name, turns in taken.items()]
    return Bench(count, device, recipe.train.precision, rounds, steps)


class Turn(NamedTuple):
    """One step: seconds, and evaluations forward and back."""

    seconds: float
    evaluations: int
    evaluations_backward: int


Kinds = dict[str, Callable[[], Turn]]


def _kinds(
    model: MultiscaleFlow, event: Event, batch_size: int, fabric: Fabric, piece: int
) -> Kinds:
    """Return what takes a step of each kind, by name; the recipe's own likelihood step first."""
    condition = condition_like(event, batch_size, fabric.device)

    def loss_of(objective: Objective, u: Tensor) -> Tensor:
        if objective.is_mean_over_samples and piece < batch_size:
            return loss_in_pieces(objective, model, u, event, piece, condition).value
        given = {} if condition is None else {"condition": condition}
        return objective.loss(model, u, event, **given).value

    def step(objective: Objective, backward: bool = True) -> Turn:
        # In single precision: the model casts what it has preprocessed.
        u = noise_like(event, batch_size, fabric.device)
        wait_for(fabric.device)
        start = time.perf_counter()
        with fabric.autocast(), torch.set_grad_enabled(backward):
            loss = loss_of(objective, u)
        if backward:
            loss.backward()
        wait_for(fabric.device)
        seconds = time.perf_counter() - start
        model.zero_grad()
        solved = [block.stats for block in model.blocks] if objective == Likelihood() else []
        return Turn(seconds, sum(s.nfe for s in solved), sum(s.nfe_backward for s in solved))

    def differentiated(sensitivity: Sensitivity) -> Callable[[], Turn]:
        def take() -> Turn:
            with differentiated_by(model, sensitivity):
                return step(Likelihood())

        return take

    return {
        OWN: lambda: step(Likelihood()),
        **{f"{OWN}, {name}": differentiated(way) for name, way in SENSITIVITIES.items()},
        f"{OWN}, no gradient": lambda: step(Likelihood(), backward=False),
        "flow-matching": lambda: step(FlowMatching()),
    }


def _in_turns(kinds: Kinds, rounds: int) -> dict[str, list[Turn]]:
    taken: dict[str, list[Turn]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, take in kinds.items():
            taken[name].append(take())
    return taken


def _timing(name: str, turns: list[Turn], own: list[float]) -> Timing:
    relative = median(turn.seconds / base for turn, base in zip(turns, own, strict=True))
    seconds = median(turn.seconds for turn in turns)
    return Timing(name, seconds, relative, turns[-1].evaluations, turns[-1].evaluations_backward)
