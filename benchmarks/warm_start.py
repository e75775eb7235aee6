"""What makes a warm start better: flow matching in variants, each before the same likelihood.

    python benchmarks/warm_start.py MNIST_ROOT [VARIANT…]

The model and the data are those of the recipe mnist14-warm, digits read from MNIST_ROOT. Every
variant trains by flow matching, and then by 30 steps of the regularized likelihood under the
governor. Bits/dim are held out: 250 validation digits, the same noise for all, rk4 at step 0.25.
Seconds are those of matching alone, one thread.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rnode_dyn import FlowMatching, Likelihood, MultiscaleFlow, load_recipe
from rnode_dyn.training.loop.averaging import MovingAverage

# isort: split
import pytorch_lightning as pl  # after rnode_dyn, which lets it import beside a CPU torch
import torch
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.table import Table
from torch import Tensor

from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.splits import Splits
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.flows.refinement import step_count
from rnode_dyn.flows.straight_paths import Leg, legs
from rnode_dyn.recipe.build import build_model, load_splits
from rnode_dyn.training.governor.build import build_governor
from rnode_dyn.training.loop.module import FlowTraining, OptimizerSettings
from rnode_dyn.training.loop.trainer import quiet_lightning
from rnode_dyn.training.objectives.base import Objective

HELD_OUT = 250
OVERRIDES = (
    f"data.validation_size={HELD_OUT}",
    "data.test_size=1",
    "solver.eval.algorithm=rk4",
    "solver.eval.step=0.25",
)


@dataclass(frozen=True)
class PowerLeg(Leg):
    """Paths of which (s/e)^power is done."""

    power: float = 1.0

    def at(self, data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and velocities of the straight lines, walked so."""
        a, z = (vectors[:, self.coordinates.flatten()] for vectors in (data, noise))
        exits = self.exits.flatten().to(data.dtype)
        linear = ((self.number + t[:, None] / self.flow.end_time) / exits).clamp(min=1e-6)
        speed = self.power * linear ** (self.power - 1) / (exits * self.flow.end_time)
        shape = (-1, *self.coordinates.shape)
        x = torch.lerp(a, z, linear**self.power)
        return x.reshape(shape), (speed * (z - a)).reshape(shape)


@dataclass(frozen=True)
class WaitingLeg(Leg):
    """Coordinates stay where they are until some part of the blocks before their scale is over."""

    starts: Tensor = field(default_factory=lambda: torch.zeros(()))

    def at(self, data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and velocities: at rest, and then straight."""
        a, z = (vectors[:, self.coordinates.flatten()] for vectors in (data, noise))
        starts, exits = (part.flatten().to(data.dtype) for part in (self.starts, self.exits))
        now = self.number + t[:, None] / self.flow.end_time
        span = exits - starts
        velocity = (now > starts) * (z - a) / (span * self.flow.end_time)
        x = torch.lerp(a, z, ((now - starts) / span).clamp(min=0))
        shape = (-1, *self.coordinates.shape)
        return x.reshape(shape), velocity.reshape(shape)


@dataclass(frozen=True)
class Power(FlowMatching):
    """Flow matching on paths of which (s/e)^power is done."""

    power: float = 1.0

    def route(self, model: MultiscaleFlow, device: torch.device) -> list[Leg]:
        """Return the same legs, walked so."""
        return [
            PowerLeg(leg.number, leg.flow, leg.coordinates, leg.exits, power=self.power)
            for leg in legs(model, device)
        ]


@dataclass(frozen=True)
class Waiting(FlowMatching):
    """Flow matching where each coordinate waits for its scale, for this part of the way there."""

    part: float = 1.0

    def route(self, model: MultiscaleFlow, device: torch.device) -> list[Leg]:
        """Return legs of coordinates that start late."""
        route = legs(model, device)
        starts = torch.zeros(sum(math.prod(shape) for shape in model.latent_shapes))
        number = 0
        for scale in model.scale_list():
            if scale.blocks:
                starts[route[number].coordinates.flatten()] = self.part * number
            number += len(scale.blocks)
        return [
            WaitingLeg(
                leg.number,
                leg.flow,
                leg.coordinates,
                leg.exits,
                starts=starts[leg.coordinates],
            )
            for leg in route
        ]


@dataclass(frozen=True)
class Drawn(FlowMatching):
    """Flow matching where each block takes part in a step with a probability of its own."""

    chances: tuple[float, ...] = ()

    def route(self, model: MultiscaleFlow, device: torch.device) -> list[Leg]:
        """Return the legs that were drawn; one at least."""
        route = legs(model, device)
        drawn = torch.rand(len(route)) < torch.tensor(self.chances)
        kept = [leg for leg, takes_part in zip(route, drawn, strict=True) if takes_part]
        return kept or route[:1]


@dataclass(frozen=True)
class EarlyTimes(FlowMatching):
    """Flow matching with times whose density falls as 1/(s + offset), s the global time."""

    offset: float = 0.03

    def draw_times(self, leg: Leg, data: Tensor) -> Tensor:
        """Return uniform times, bent towards the data."""
        start = leg.number + self.offset
        uniform = super().draw_times(leg, data)
        return (start * ((start + 1) / start) ** uniform - start).clamp(0, 1)


@dataclass(frozen=True)
class Variant:
    """A way to match, and for how long."""

    objective: FlowMatching = field(default_factory=FlowMatching)
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 5e-3
    ema: float | None = None
    likelihood_rate: float = 3e-3
    seed: int = 0


BASE = Variant()
VARIANTS = {
    "base": BASE,
    "base, seed 1": replace(BASE, seed=1),
    "base, seed 2": replace(BASE, seed=2),
    "coupling minibatch-ot": replace(BASE, objective=FlowMatching(coupling="minibatch-ot")),
    "times uniform": replace(BASE, objective=FlowMatching(times="uniform")),
    "times logit-normal": replace(BASE, objective=FlowMatching(times="logit-normal")),
    "times early, 1/(s + 0.03)": replace(BASE, objective=EarlyTimes()),
    "pace 1.5": replace(BASE, objective=FlowMatching(pace=1.5)),
    "pace 1.5, seed 1": replace(BASE, objective=FlowMatching(pace=1.5), seed=1),
    "pace 2": replace(BASE, objective=FlowMatching(pace=2.0)),
    "(s/e)^0.5": replace(BASE, objective=Power(power=0.5)),
    "(s/e)^0.7": replace(BASE, objective=Power(power=0.7)),
    "(s/e)^0.7, seed 1": replace(BASE, objective=Power(power=0.7), seed=1),
    "(s/e)^1.5": replace(BASE, objective=Power(power=1.5)),
    "wait a quarter of the way": replace(BASE, objective=Waiting(part=0.25)),
    "wait for the own scale": replace(BASE, objective=Waiting(part=1.0)),
    "blocks of scale 0 half as often": replace(
        BASE, objective=Drawn(chances=(0.5, 0.5, 1, 1, 1, 1))
    ),
    "blocks of scale 0 twice as often": replace(
        BASE, objective=Drawn(chances=(1, 1, 0.5, 0.5, 0.5, 0.5))
    ),
    "EMA 0.99": replace(BASE, ema=0.99),
    "batch 8": replace(BASE, batch_size=8),
    "batch 64": replace(BASE, batch_size=64),
    "rate 2e-3": replace(BASE, learning_rate=2e-3),
    "rate 1e-2": replace(BASE, learning_rate=1e-2),
    "batch 8, rate 1e-2": replace(BASE, batch_size=8, learning_rate=1e-2),
    "250 steps": replace(BASE, steps=250),
    "500 steps": replace(BASE, steps=500),
    "2000 steps": replace(BASE, steps=2000),
    "likelihood at 1e-3": replace(BASE, likelihood_rate=1e-3),
    "likelihood at 1e-2": replace(BASE, likelihood_rate=1e-2),
}


def fit(
    model: MultiscaleFlow,
    splits: Splits,
    objective: Objective,
    variant: tuple[int, int, float],
    callbacks: Sequence[Callback],
) -> float:
    """Train for some steps at a batch size and a rate; return the seconds."""
    steps, batch_size, rate = variant
    module = FlowTraining(model, splits.event, objective, OptimizerSettings(rate))
    options: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=steps,
            limit_val_batches=0,
            callbacks=list(callbacks),
            **options,
        )
        trainer.fit(module, FlowDataModule(splits, batch_size=batch_size, seed=0))
    return module.training_clock.seconds


@torch.no_grad()
def held_out(model: MultiscaleFlow, splits: Splits) -> float:
    """Bits/dim of the validation digits."""
    module = FlowTraining(model.eval(), splits.event)
    found = []
    for number, batch in enumerate(splits.validation.head(HELD_OUT).split(100)):
        torch.manual_seed(number)
        found.append(bits_of(model(module.dequantize(batch)), splits.event))
    model.train()
    return float(torch.cat(found).mean())


def measure(root: str, variant: Variant) -> list[str]:
    """Train a variant from the start, and return its row of the table."""
    torch.manual_seed(variant.seed)
    recipe = load_recipe("mnist14-warm", [f"data.root={root}", *OVERRIDES])
    splits = load_splits(recipe)
    model = build_model(recipe, splits.event).train()
    average = [] if variant.ema is None else [MovingAverage(variant.ema)]
    lengths = (variant.steps, variant.batch_size, variant.learning_rate)
    seconds = fit(model, splits, variant.objective, lengths, average)
    matched = held_out(model, splits)
    governor = build_governor(recipe, model, splits)
    assert governor is not None  # the recipe's step is "auto"
    fit(model, splits, Likelihood(), (30, 64, variant.likelihood_rate), [governor])
    steps = " ".join(str(step_count(block)) for block in model.blocks)
    return [f"{seconds:.0f}", f"{matched:.3f}", f"{held_out(model, splits):.3f}", steps]


def main(root: str, variants: list[str]) -> None:
    """Print the table, row by row."""
    torch.set_num_threads(1)
    columns = ("variant", "seconds", "after matching", "after 30 steps", "steps a block")
    console = Console(width=120)
    table = Table(*columns, box=None)
    for name in variants or VARIANTS:
        row = measure(root, VARIANTS[name])
        table.add_row(name, *row)
        console.print(" | ".join((name, *row)), highlight=False)
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="folder of MNIST")
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help="all, unless named")
    main(**vars(parser.parse_args()))
