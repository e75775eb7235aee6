"""A held-out time of a branching population: flows through snapshots against interpolation.

`python benchmarks/snapshots.py [SEEDS] [STEPS] [PICTURE]` fits the data of
`examples/branching_snapshots.py`, prints the energy distances at the time that no snapshot shows,
and draws the first seed's flow.
"""

import argparse
import statistics
from pathlib import Path

import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from torch import Tensor

from rnode_dyn import FixedStep, MLPField, RegularizedFlow, Snapshots, Solver, Tsit5
from rnode_dyn.training.objectives.coupling import partners, squared_distances

TIMES, HELD_OUT = (0.0, 0.25, 0.75, 1.0), 0.5


def population(count: int, t: float) -> Tensor:
    """Draw points at a time: all move right, and half of them turn up, half down."""
    branch = torch.randint(0, 2, (count,)) * 2 - 1.0
    centre = torch.stack([torch.full((count,), 2 * t), 2 * branch * t**3], dim=1)
    return centre + 0.3 * torch.randn(count, 2)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, zero where both are drawn from the same density."""
    within = torch.pdist(x).mean() + torch.pdist(y).mean()
    return (2 * torch.cdist(x, y).mean() - within).item()


def fitted(snapshots: list[Tensor], paths: str, pairs: str, steps: int) -> RegularizedFlow:
    """Fit a flow to the snapshots."""
    flow = RegularizedFlow(MLPField(2, activation="silu"), Solver(Tsit5(), FixedStep(0.05)))
    objective = Snapshots(TIMES, pairs, paths, batch=128)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        objective.loss(flow, snapshots).value.backward()
        optimizer.step()
        schedule.step()
    return flow


def guesses(snapshots: list[Tensor], steps: int) -> tuple[dict[str, Tensor], RegularizedFlow]:
    """Return what each way says of the time that was left out, and the flow along splines."""
    before, after = snapshots[1], snapshots[2]
    paired = after[partners(squared_distances(before, after))]
    said = {
        "interpolation, random pairs": (before + after) / 2,
        "interpolation, pairs of least distance": (before + paired) / 2,
    }
    ways = [("straight", "independent"), ("straight", "minibatch-ot"), ("spline", "minibatch-ot")]
    flow = None
    for paths, pairs in ways:
        flow = fitted(snapshots, paths, pairs, steps)
        with torch.no_grad():
            carried = flow.between(before, TIMES[1], HELD_OUT).z
        said[f'`Snapshots(pairs="{pairs}", paths="{paths}")`'] = carried
    assert flow is not None
    return said, flow


def draw(axes: Axes, flow: RegularizedFlow, snapshots: list[Tensor], carried: Tensor) -> None:
    """Draw the snapshots, the paths of the first one, and what the flow says in between."""
    with torch.no_grad():
        times = torch.linspace(TIMES[0], TIMES[-1], 41)
        paths = flow.trajectory(snapshots[0][:60], times)
    axes.plot(*paths.permute(2, 0, 1), color="0.6", linewidth=0.5)
    for t, x in zip(TIMES, snapshots, strict=True):
        axes.plot(*x[:200].T, ".", markersize=3, label=f"t = {t:g}")
    label = f"carried to t = {HELD_OUT:g}, which was left out"
    axes.plot(*carried[:200].T, "x", markersize=4, color="black", label=label)
    axes.set(xlabel="x", ylabel="y")
    axes.legend(fontsize="small")


def main(seeds: int, steps: int, picture: Path) -> None:
    """Print the means over the seeds, and draw the first."""
    figure = pyplot.figure(figsize=(8, 4.5), layout="constrained")
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        snapshots = [population(500, t) for t in TIMES]
        truth, again = population(2000, HELD_OUT), population(500, HELD_OUT)
        said, flow = guesses(snapshots, steps)
        for name, x in {**said, "another sample of the truth": again}.items():
            found.setdefault(name, []).append(energy_distance(x, truth))
        if seed == 0:
            draw(figure.subplots(), flow, snapshots, list(said.values())[-1])
    print("| way | energy distance |\n|---|---:|")
    for name, distances in found.items():
        spread = statistics.pstdev(distances)
        print(f"| {name} | {statistics.mean(distances):.4f} ± {spread:.4f} |")
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="?", type=int, default=3)
    parser.add_argument("steps", nargs="?", type=int, default=800)
    parser.add_argument("picture", nargs="?", type=Path, default="snapshots.png")
    main(**vars(parser.parse_args()))
