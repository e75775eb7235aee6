"""What the penalties do to a field that matching has made strong: an ablation on 14×14 digits.

    python benchmarks/matched_ablation.py --root data --seeds 1 --matching 25 --after 25

A U-Net is matched for a while, and each way goes on from there for as long: matching goes on, or
the likelihood with one penalty or both, or matching on the flow's own pairs; minibatch optimal
transport is matched for both whiles from the start. Times are CPU seconds of one thread. Of each:
bits/dim and evaluations by dopri5 at 1e-5, how far 4, 8 and 16 steps of RK4 are from that bits/dim,
and the Fréchet distance of samples. Writes a table, the figures as JSON, and a Pareto picture.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from statistics import mean, stdev

import matplotlib
import torch
from frechet import Judge
from matplotlib import pyplot as plt
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Dopri5,
    FixedStep,
    FlowDistribution,
    FlowMatching,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MultiscaleFlow,
    Objective,
    Reflow,
    Solver,
    UniformDequantization,
    build_model,
    load_recipe,
)
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.recipe.build import load_splits

STEPS = (4, 8, 16)
TRAINED_BY = 8
"""Steps of RK4 in the likelihood's training."""
DRAWN_BY = 8
"""Steps of RK4 of the samples."""
FIGURES = ("bits", "evaluations", *(f"error_{n}" for n in STEPS), "frechet", "updates")


def penalised(kinetic: float, jacobian: float) -> Likelihood:
    """The likelihood with these weights."""
    return Likelihood([KineticEnergy(kinetic), JacobianFrobenius(jacobian)])


WAYS: dict[str, Callable[[MultiscaleFlow], Objective]] = {
    "matching": lambda flow: FlowMatching(),
    "likelihood": lambda flow: penalised(0.0, 0.0),
    "kinetic": lambda flow: penalised(0.01, 0.0),
    "Jacobian": lambda flow: penalised(0.0, 0.01),
    "both": lambda flow: penalised(0.01, 0.01),
    "reflow": lambda flow: Reflow(teacher=flow),
}

BEHIND_A_LOGIT = ["model.logit_alpha=1e-5", "model.field.skip=false", "train.stage.0.targets=drawn"]


class Task:
    """The digits, and how a flow is trained and measured on them."""

    def __init__(self, root: str, seed: int, points: int, samples: int) -> None:
        wanted = [f"data.root={root}", f"seed={seed}", f"data.test_size={points}"]
        self.recipe = load_recipe("mnist14-unet", [*wanted, *BEHIND_A_LOGIT])
        self.splits, self.seed, self.samples = load_splits(self.recipe), seed, samples
        self.dequantize = UniformDequantization(256)

    def flow(self) -> MultiscaleFlow:
        """An untrained flow."""
        torch.manual_seed(self.seed)
        return build_model(self.recipe, self.splits.event)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Training batches without end."""
        images = self.splits.train.head(len(self.splits.train))
        while True:
            yield self.dequantize(images[torch.randint(len(images), (size,))])

    def train(self, flow: MultiscaleFlow, objective: Objective, rate: float, seconds: float) -> int:
        """Train for CPU seconds, the rate falling to 0 with them; return the updates."""
        solves, updates, began = isinstance(objective, Likelihood), 0, time.process_time()
        optimizer = torch.optim.Adam(flow.train().parameters(), rate)
        for block in flow.blocks:
            block.solver = Solver(RK4(), FixedStep(1 / TRAINED_BY))
        for u in self.batches(16 if solves else 32):
            gone = (time.process_time() - began) / seconds
            if gone >= 1:
                return updates
            optimizer.param_groups[0]["lr"] = rate * (1 - gone)
            optimizer.zero_grad()
            objective.loss(flow, u, self.splits.event).value.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
            optimizer.step()
            updates += 1
        return updates

    @torch.no_grad()
    def measure(self, flow: MultiscaleFlow, judge: Judge) -> dict[str, float]:
        """Bits/dim by 1e-5, what that took, and how far fixed steps are from it."""
        flow.eval()
        exact = self.bits(flow, Solver(Dopri5(), AdaptiveStep(1e-5, 1e-5)))
        found = {"bits": exact, "evaluations": float(sum(b.stats.nfe for b in flow.blocks))}
        for count in STEPS:
            fixed = self.bits(flow, Solver(RK4(), FixedStep(1 / count)))
            found[f"error_{count}"] = abs(fixed - exact)
        for block in flow.blocks:
            block.eval_solver = Solver(RK4(), FixedStep(1 / DRAWN_BY))
        torch.manual_seed(self.seed)
        drawn = FlowDistribution(flow, flow.event_shape).sample((self.samples,))
        return {**found, "frechet": judge.distance(drawn)}

    def bits(self, flow: MultiscaleFlow, solver: Solver) -> float:
        """Bits/dim of the test digits, with the same noise for every solver."""
        for block in flow.blocks:
            block.eval_solver = solver
        torch.manual_seed(1000 + self.seed)
        u = self.dequantize(self.splits.test.head(len(self.splits.test)))
        return float(bits_of(flow(u), self.splits.event).mean())


def ablate(task: Task, judge: Judge, matching: float, after: float) -> dict[str, dict[str, float]]:
    """Return the figures of every way."""
    start = task.flow()
    task.train(start, FlowMatching(), 2e-3, matching)
    found = {"matched": {**task.measure(deepcopy(start), judge), "updates": 0.0}}
    for name, objective in WAYS.items():
        flow, rate = deepcopy(start), 2e-3 if name == "matching" else 5e-4
        updates = task.train(flow, objective(start), rate, after)
        found[name] = {**task.measure(flow, judge), "updates": float(updates)}
        print(task.seed, name, found[name], flush=True)
    flow = task.flow()
    updates = task.train(flow, FlowMatching("minibatch-ot"), 2e-3, matching + after)
    found["minibatch OT"] = {**task.measure(flow, judge), "updates": float(updates)}
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
    """Bits/dim against evaluations, and against the error of 4 steps."""
    matplotlib.use("Agg")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, key in zip(axes, ("evaluations", "error_4"), strict=True):
        for name, figures in found.items():
            x, y = (mean(each[k] for each in figures) for k in (key, "bits"))
            axis.plot(x, y, "o", label=name)
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
    parser.add_argument("--matching", type=float, default=100.0, help="CPU seconds")
    parser.add_argument("--after", type=float, default=100.0, help="CPU seconds")
    parser.add_argument("--points", type=int, default=200, help="test digits")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("matched-ablation"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(given.root, 14)
    print(f"classifier: {judge.accuracy:.2%}; real digits: {judge.floor(given.samples):.3f}")
    runs = [
        ablate(
            Task(given.root, seed, given.points, given.samples), judge, given.matching, given.after
        )
        for seed in range(given.seeds)
    ]
    found = {name: [each[name] for each in runs] for name in runs[0]}
    print("| way |", " | ".join(FIGURES), "|")
    print("|---" + "|---:" * len(FIGURES) + "|")
    print("\n".join(row(name, figures) for name, figures in found.items()))
    given.output.with_suffix(".json").write_text(json.dumps(found, indent=1))
    draw(found, given.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
