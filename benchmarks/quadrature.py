"""What nodes of their own cost and miss, on a trained flow: log-determinant and penalties.

    python benchmarks/quadrature.py RUN [POINTS] [ROUNDS]

Errors are those of a solve at 1e-10 of the same flow, in float64, on the same test points and with
the same noise in every way: of the log-determinant in nats a sample, of the penalties relative to
their mean. Of random nodes, bias is that of the mean over 16 draws, and spread the standard
deviation over draws; the noise of Hutchinson's estimate has its own, which is printed below. Steps
a block are those that the run ended with. Products are vector-Jacobian products a block in the
forward pass, passes what a training step takes of passes through the field's layers: 6 an
evaluation with products, 3 one without. Time is the process's CPU time of a training step of the
recipe's batch, in float32, as a ratio to that at the stages: the median of pairs taken in turn.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from solved import trained_steps
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    Divergence,
    Dopri8,
    HutchinsonDivergence,
    Likelihood,
    Quadrature,
    Solver,
)
from rnode_dyn.costs.evaluations import node_times
from rnode_dyn.costs.probe import count_solve
from rnode_dyn.costs.stages import likelihood_batch_size
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.refinement import set_step_count
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.recipe.build import load_splits
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.weights import load_flow
from rnode_dyn.training.loop.module import FlowTraining

DRAWS = 16
REFERENCE = Solver(Dopri8(), AdaptiveStep(1e-10, 1e-10))


@dataclass(frozen=True)
class Way:
    """How the integrals are taken: the nodes, those of the penalties, and how many steps less."""

    quadrature: Quadrature
    of_penalties: Quadrature | None = None
    fewer: int = 0

    def __str__(self) -> str:
        steps = f", {self.fewer} step less" if self.fewer else ""
        apart = "" if self.of_penalties is None else f", penalties {_words(self.of_penalties)}"
        return f"{_words(self.quadrature)}{apart}{steps}"


def _words(quadrature: Quadrature) -> str:
    return " ".join(map(str, filter(None, (quadrature.rule, quadrature.nodes))))


STAGES = Way(Quadrature())
WAYS = [
    STAGES,
    Way(Quadrature(), fewer=1),
    *(Way(Quadrature("gauss", k)) for k in (1, 2, 3, 4, 6, 8)),
    *(Way(Quadrature("stratified", k)) for k in (1, 2, 4, 8)),
    *(Way(Quadrature("gauss", k), fewer=1) for k in (3, 4, 6)),
    Way(Quadrature("stratified", 2), fewer=1),
    Way(Quadrature("gauss", 4), Quadrature("gauss", 2)),
    Way(Quadrature("gauss", 4), Quadrature("gauss", 1)),
    Way(Quadrature(), Quadrature("gauss", 2)),
]


class Held(HutchinsonDivergence):
    """Hutchinson's divergence with the same noise at every solve."""

    def draw(self, x: Tensor) -> Tensor:
        """Return the first noise that was drawn, in the precision that is asked for."""
        if "noise_held" not in vars(self):
            object.__setattr__(self, "noise_held", super().draw(x))
        return vars(self)["noise_held"].to(x)


def hold_noise(model: MultiscaleFlow) -> list[Divergence]:
    """Let every block have the same noise at each solve; return the divergences it had."""
    before = [block.divergence for block in model.blocks]
    for block in model.blocks:
        own = block.divergence
        if isinstance(own, HutchinsonDivergence):
            block.divergence = Held(own.noise, own.probes)
    return before


@contextmanager
def solved(model: MultiscaleFlow, way: Way, steps: list[int]) -> Iterator[None]:
    """Solve a training pass this way."""
    for block, count in zip(model.blocks, steps, strict=True):
        set_step_count(block, max(1, count - way.fewer))
        block.quadrature, block.penalty_quadrature = way.quadrature, way.of_penalties
    yield


@torch.no_grad()
def reference(model: MultiscaleFlow, u: Tensor) -> FlowResult:
    """Solve at 1e-10."""
    before = [block.solver for block in model.blocks]
    for block in model.blocks:
        block.solver, block.quadrature, block.penalty_quadrature = REFERENCE, Quadrature(), None
    try:
        return model(u)
    finally:
        for block, solver in zip(model.blocks, before, strict=True):
            block.solver = solver


@torch.no_grad()
def errors(model: MultiscaleFlow, u: Tensor, way: Way, exact: FlowResult) -> list[str]:
    """Return bias and spread of the log-determinant, its size a sample, and the penalties'."""
    random = any(q is not None and q.is_random for q in (way.quadrature, way.of_penalties))
    found = [model(u) for _ in range(DRAWS if random else 1)]
    log_dets = torch.stack([result.log_det for result in found]) - exact.log_det
    spread = f"{log_dets.std(0).mean():.2g}" if random else ""
    of_penalties = [
        f"{abs(_mean(found, name) / exact.penalties[name].mean() - 1):.1%}"
        for name in ("kinetic_energy", "jacobian_frobenius")
    ]
    size = log_dets.square().mean().sqrt()
    return [f"{log_dets.mean():+.2g}", spread, f"{size:.2g}", *of_penalties]


def _mean(found: list[FlowResult], name: str) -> Tensor:
    return torch.stack([result.penalties[name] for result in found]).mean()


def counts(model: MultiscaleFlow) -> list[str]:
    """Return products a block, and passes through the layers a block."""
    products, passes = [], []
    for block in model.blocks:
        times = node_times(block)
        solve = count_solve(block.solver, block.end_time, times).forward
        at_stages = 6 if block.quadrature.at_stages else 3
        products.append(len(times) + (solve if block.quadrature.at_stages else 0))
        passes.append(at_stages * solve + 6 * len(times))
    return [f"{sum(each) / len(each):.3g}" for each in (products, passes)]


def time_ratios(
    model: MultiscaleFlow, u: Tensor, event, steps: list[int], rounds: int
) -> dict[Way, float]:
    """Return the time of a training step each way, as a ratio to that at the stages."""

    def seconds(way: Way) -> float:
        with solved(model, way, steps):
            start = time.process_time()
            Likelihood().loss(model, u, event).value.backward()
            model.zero_grad()
            return time.process_time() - start

    ratios: dict[Way, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way in WAYS:
            ratios[way].append(seconds(way) / seconds(STAGES))
    return {way: median(found[1:]) for way, found in ratios.items()}


def main(run: Path, points: int, rounds: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    folder = RunFolder(run)
    recipe, model = load_flow(folder, "last")
    splits, batch = load_splits(recipe), likelihood_batch_size(recipe)
    torch.manual_seed(0)
    module = FlowTraining(model, splits.event)
    steps = trained_steps(folder, model)
    model.train()
    data = module.dequantize(splits.train.head(batch))
    ratios = time_ratios(model, data, splits.event, steps, rounds)

    u = module.dequantize(splits.test.head(points)).double()
    model.double()
    noises = torch.stack([reference(model, u).log_det for _ in range(2)])
    before = hold_noise(model)
    exact = reference(model, u)
    table = Table("way", "products", "passes", "time", title=f"{recipe.name}, steps {steps}")
    for column in ("bias", "spread", "rms error", "kinetic", "jacobian"):
        table.add_column(column, justify="right")
    for way in WAYS:
        with solved(model, way, steps):
            found = errors(model, u, way, exact)
            table.add_row(str(way), *counts(model), f"{ratios[way]:.2f}", *found)
    console = Console(width=130)
    console.print(table)
    spread = float(noises.var(0).mean().sqrt())
    if spread:
        console.print(f"spread by {before[0]}: {spread:.2g} nats a sample")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("points", nargs="?", type=int, default=100)
    parser.add_argument("rounds", nargs="?", type=int, default=15)
    main(**vars(parser.parse_args()))
