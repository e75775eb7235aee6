"""What the penalties do to a field that matching has made strong: an ablation on 14×14 digits.

    python benchmarks/matched_ablation.py --root data --seeds 1 --matching 25 --after 25

The U-Net of `mnist14-unet` is matched for a while as the recipe has it, and each way goes on from
there for as long: matching goes on, alone or with the Jacobian's norm along such paths, or the
likelihood with one penalty or both, or matching on the flow's own pairs. Minibatch optimal
transport goes with even weights alone, and is matched so for both whiles from the start, beside the
same without it. Times are CPU seconds of one thread. Of each: bits/dim and evaluations by dopri5 at
1e-5, how far 4, 8 and 16 steps of RK4 are from that bits/dim, and the Fréchet distance of samples.
Writes a table, the figures as JSON, and a Pareto picture.
"""

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import matplotlib
import torch
from digits import Digits
from frechet import Judge
from matplotlib import pyplot as plt
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Dopri5,
    Event,
    FixedStep,
    FlowDistribution,
    FlowMatching,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MultiscaleFlow,
    Muon,
    Objective,
    Reflow,
    Solver,
    load_recipe,
)
from rnode_dyn.fields.at_times import taking_times
from rnode_dyn.flows.straight_paths import legs
from rnode_dyn.training.loop.stages import build_objective
from rnode_dyn.training.objectives.base import Loss

STEPS = (4, 8, 16)
TRAINED_BY = 8
"""Steps of RK4 in the likelihood's training."""
DRAWN_BY = 8
"""Steps of RK4 of the samples."""
FIGURES = ("bits", "evaluations", *(f"error_{n}" for n in STEPS), "frechet", "updates")
SOLVING_RATE = 2e-3
"""Muon's, in the likelihood's training."""
MATCHING_RATE = 4e-3

RECIPES = build_objective(load_recipe("mnist14-unet").train.stages[0])
"""Flow matching as the recipe has it."""


@dataclass(frozen=True)
class MatchingWithJacobian(Objective):
    """The recipe's matching, and ‖∂f/∂x‖_F² at points of straight paths, uniform in time.

    Without solving: such points are distributed as those of the flow's own trajectories.

    Args:
        penalty: What is added to matching, with its weight.
        points: At how many points a step; each costs three times what matching a sample does.
    """

    penalty: JacobianFrobenius
    points: int = 8

    def loss(
        self,
        model: MultiscaleFlow,
        u: Tensor,
        event: Event | None = None,
        condition: Tensor | None = None,
    ) -> Loss:
        """Return the sum of both."""
        matched = RECIPES.loss(model, u, event, condition)
        (leg,) = legs(model)
        data = model.enter(u[: self.points]).z.flatten(1)
        noise, t = torch.randn_like(data), torch.rand(len(data))
        x, _ = leg.at(data, noise, t)
        at = HutchinsonDivergence().linearize(taking_times(leg.flow.field), t, x, None)
        bends = self.penalty.integrand(at).mean()
        return Loss(matched.value + self.penalty.weight * bends, matched.figures)


def penalised(kinetic: float, jacobian: float) -> Likelihood:
    """The likelihood with these weights."""
    return Likelihood([KineticEnergy(kinetic), JacobianFrobenius(jacobian)])


AFTER_MATCHING: dict[str, Callable[[MultiscaleFlow], Objective]] = {
    "matching goes on": lambda flow: RECIPES,
    "with the Jacobian": lambda flow: MatchingWithJacobian(JacobianFrobenius(0.01)),
    "likelihood": lambda flow: penalised(0.0, 0.0),
    "kinetic energy, 0.01": lambda flow: penalised(0.01, 0.0),
    "Jacobian, 0.01": lambda flow: penalised(0.0, 0.01),
    "both": lambda flow: penalised(0.01, 0.01),
    "reflow": lambda flow: Reflow(teacher=flow, times="near-data"),
}
FROM_THE_START: dict[str, Objective] = {
    "even weights": FlowMatching(times="near-data"),
    "minibatch OT": FlowMatching("minibatch-ot", times="near-data"),
}


def train(
    task: Digits,
    flow: MultiscaleFlow,
    objective: Objective,
    seconds: float,
    optimizer: Optimizer | None = None,
) -> int:
    """Train for CPU seconds, the rate falling to 0 with them; return the updates."""
    solves, updates, began = isinstance(objective, Likelihood), 0, time.process_time()
    if optimizer is None:
        optimizer = Muon(flow.parameters(), SOLVING_RATE if solves else MATCHING_RATE)
    schedule = LambdaLR(optimizer, lambda _: 1 - (time.process_time() - began) / seconds)
    for block in flow.train().blocks:
        block.solver = Solver(RK4(), FixedStep(1 / TRAINED_BY))
    for u in task.batches(16 if solves else 32):
        if time.process_time() - began >= seconds:
            break
        optimizer.zero_grad()
        objective.loss(flow, u, task.splits.event).value.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        updates += 1
    return updates


@torch.no_grad()
def measure(task: Digits, flow: MultiscaleFlow, judge: Judge, samples: int) -> dict[str, float]:
    """Bits/dim by 1e-5, what that took, how far fixed steps are from it, and the samples."""
    exact = task.bits(flow, Solver(Dopri5(), AdaptiveStep(1e-5, 1e-5)))
    found = {"bits": exact, "evaluations": float(sum(b.stats.nfe for b in flow.blocks))}
    for count in STEPS:
        found[f"error_{count}"] = abs(task.bits(flow, Solver(RK4(), FixedStep(1 / count))) - exact)
    for block in flow.blocks:
        block.eval_solver = Solver(RK4(), FixedStep(1 / DRAWN_BY))
    torch.manual_seed(task.seed)
    drawn = FlowDistribution(flow, flow.event_shape).sample((samples,))
    return {**found, "frechet": judge.distance(drawn)}


def ablate(given: argparse.Namespace, judge: Judge, seed: int) -> dict[str, dict[str, float]]:
    """Return the figures of every way, of one seed."""
    torch.set_num_threads(1)
    task = Digits(given.root, seed, given.points)
    found = {}

    def tell(name: str, flow: MultiscaleFlow, updates: int) -> None:
        figures = measure(task, flow, judge, given.samples)
        found[name] = {**figures, "updates": float(updates)}
        print(seed, name, found[name], flush=True)

    start = task.flow()
    tell("matched", start, train(task, start, RECIPES, given.matching))
    for name, objective in AFTER_MATCHING.items():
        flow = deepcopy(start)
        tell(name, flow, train(task, flow, objective(start), given.after))
    for name, matching in FROM_THE_START.items():
        flow = task.flow()
        tell(name, flow, train(task, flow, matching, given.matching + given.after))
    return found


def row(name: str, figures: list[dict[str, float]]) -> str:
    """A row of the table: means over the seeds, with their spread where there are several."""
    cells = []
    for key in FIGURES:
        values = [each[key] for each in figures]
        spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.4g}{spread}")
    return f"| {name} | {' | '.join(cells)} |"


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Bits/dim against evaluations, and against the error of 4 steps; each seed a dot."""
    matplotlib.use("Agg")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axis, key in zip(axes, ("evaluations", "error_4"), strict=True):
        for number, (name, figures) in enumerate(found.items()):
            x, y = ([each[k] for each in figures] for k in (key, "bits"))
            colour = plt.get_cmap("tab20")(number)
            axis.plot(x, y, ".", color=colour, alpha=0.5)
            axis.plot(mean(x), mean(y), "o", color=colour, label=name)
        axis.set_xlabel("evaluations at 1e-5" if key == "evaluations" else "error of 4 steps")
    axes[0].set_ylabel("bits/dim")
    axes[1].set_xscale("log")
    axes[1].legend(bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Ablate, print the table, write figures and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="seeds at a time")
    parser.add_argument("--matching", type=float, default=100.0, help="CPU seconds")
    parser.add_argument("--after", type=float, default=100.0, help="CPU seconds")
    parser.add_argument("--points", type=int, default=200, help="test digits")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("matched-ablation"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(given.root, 14)
    print(f"classifier: {judge.accuracy:.2%}; real digits: {judge.floor(given.samples):.3f}")
    with get_context("spawn").Pool(given.processes) as pool:
        runs = pool.map(partial(ablate, given, judge), range(given.seeds), chunksize=1)
    found = {name: [each[name] for each in runs] for name in runs[0]}
    print("| way |", " | ".join(FIGURES), "|")
    print("|---" + "|---:" * len(FIGURES) + "|")
    print("\n".join(row(name, figures) for name, figures in found.items()))
    given.output.with_suffix(".json").write_text(json.dumps(found, indent=1))
    draw(found, given.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
