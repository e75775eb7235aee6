"""What each penalty is worth: evaluations against nats or accuracy, at three weights each.

`python benchmarks/regularizers.py [SEEDS] [STEPS] [PICTURE]` trains a flow on eight Gaussians
and a classifier of scikit-learn's digits with each penalty, prints two tables, and draws them. All
are trained by the same solver with fixed steps; evaluations are those of one adaptive solve of test
data, of its log-densities or its classes.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from layers import digits
from matplotlib import pyplot
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn import functional

from rnode_dyn import (
    AdaptiveStep,
    ErrorEstimate,
    ExactDivergence,
    FixedStep,
    FlowDistribution,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MLPField,
    RegularizedFlow,
    RegularizedODE,
    Solver,
    Stiffness,
    TaylorDerivative,
    TrajectoryPolynomial,
    Tsit5,
    Uniform,
    load_data,
    penalty,
)

TRAINING = Solver(Tsit5(), FixedStep(0.5))
MEASURING = Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5))
BATCH, RATE = 128, 1e-2


class Choice(NamedTuple):
    """A penalty, or ends drawn at random, with three weights for either task.

    Attributes:
        make: Makes the arguments of a flow or a layer of a weight.
        plane: The weights on the Gaussians.
        digits: The weights on the digits.
    """

    make: Callable[[float], dict[str, Any]]
    plane: tuple[float, ...]
    digits: tuple[float, ...]


class Outcome(NamedTuple):
    """What a trained model costs, how good it is, and what its training took of the CPU."""

    evaluations: float
    score: float
    seconds: float


def penalised(kind: Callable[[float], Any]) -> Callable[[float], dict[str, Any]]:
    """Return what makes the arguments with one penalty."""
    return lambda weight: {"regularizers": [kind(weight)]}


CHOICES = {
    "`KineticEnergy`": Choice(penalised(KineticEnergy), (0.01, 0.1, 1.0), (1.0, 10.0, 100.0)),
    "`JacobianFrobenius`": Choice(
        penalised(JacobianFrobenius), (0.001, 0.01, 0.1), (0.1, 1.0, 10.0)
    ),
    "`TaylorDerivative(order=2)`": Choice(
        penalised(lambda weight: TaylorDerivative(weight, order=2)),
        (0.001, 0.01, 0.1),
        (0.1, 1.0, 10.0),
    ),
    "`ErrorEstimate`": Choice(penalised(ErrorEstimate), (1.0, 10.0, 100.0), (1e2, 1e3, 1e4)),
    "`Stiffness`": Choice(penalised(Stiffness), (0.003, 0.03, 0.3), (0.01, 0.1, 1.0)),
    "`TrajectoryPolynomial`": Choice(
        penalised(TrajectoryPolynomial), (0.1, 1.0, 10.0), (10.0, 100.0, 1000.0)
    ),
    "`Uniform` ends, 1 ± w": Choice(
        lambda w: {"end_time": Uniform(1 - w, 1 + w)}, (0.1, 0.25, 0.5), (0.1, 0.25, 0.5)
    ),
}


def batches(count: int, steps: int) -> Iterator[Tensor]:
    """Yield indices of batches, epoch after epoch."""

    def endless() -> Iterator[Tensor]:
        while True:
            yield from torch.randperm(count).split(BATCH)

    return islice(endless(), steps)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def on_the_plane(arguments: dict[str, Any], seed: int, steps: int) -> Outcome:
    """Train a flow on eight Gaussians; the score is −log p of test points, in nats."""
    splits = load_data("8gaussians", seed=seed)
    points, test = splits.train[:], splits.test[:1000]
    torch.manual_seed(seed)
    field, exact = MLPField(2, hidden=(64, 64)), ExactDivergence()
    flow = RegularizedFlow(field, TRAINING, exact, **arguments)
    optimizer = torch.optim.Adam(flow.parameters(), RATE)
    began = time.process_time()
    for rows in batches(len(points), steps):
        step(optimizer, Likelihood().loss(flow, points[rows]).value)
    seconds = time.process_time() - began
    plain = RegularizedFlow(field, MEASURING, exact).eval()
    with torch.no_grad():
        score = -FlowDistribution(plain, (2,)).log_prob(test).mean().item()
    return Outcome(plain.stats.nfe, score, seconds)


def on_digits(arguments: dict[str, Any], seed: int, steps: int) -> Outcome:
    """Train a classifier of digits; the score is the share of test digits it gets wrong, in %."""
    data = digits(seed)
    torch.manual_seed(seed)
    layer = RegularizedODE(MLPField(64, hidden=(64, 64)), TRAINING, **arguments)
    network = nn.Sequential(layer, nn.Linear(64, 10))
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    began = time.process_time()
    for rows in batches(len(data.x), steps):
        answer = functional.cross_entropy(network(data.x[rows]), data.y[rows])
        step(optimizer, answer + penalty(network))
    seconds = time.process_time() - began
    plain = RegularizedODE(layer.field, MEASURING)
    with torch.no_grad():
        wrong = network[1](plain(data.test_x)).argmax(1) != data.test_y
    return Outcome(plain.stats.nfe, 100 * wrong.double().mean().item(), seconds)


TASKS = {"plane": on_the_plane, "digits": on_digits}


class Job(NamedTuple):
    """One training: what, with which penalty at which of its weights, and the seed."""

    task: str
    penalty: str
    place: int
    seed: int
    steps: int


def done(job: Job) -> Outcome:
    """Do a job, on one thread."""
    torch.set_num_threads(1)
    choice = CHOICES.get(job.penalty)
    weights = () if choice is None else getattr(choice, job.task)
    arguments = {} if choice is None else choice.make(weights[job.place])
    return TASKS[job.task](arguments, job.seed, job.steps)


def averaged(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the means over the seeds."""
    return Outcome(*(statistics.mean(column) for column in zip(*outcomes, strict=True)))


def table(
    workers: ProcessPoolExecutor, task: str, heading: str, seeds: int, steps: int
) -> dict[str, list[Outcome]]:
    """Print the table of a task, and return it."""
    places = [("none", 0), *((name, place) for name in CHOICES for place in range(3))]
    jobs = [Job(task, *place, seed, steps) for place in places for seed in range(seeds)]
    outcomes = workers.map(done, jobs)
    print(f"\n| penalty | weights | evaluations | {heading} | a step costs |")
    print("|---|---|---|---|---:|")
    found: dict[str, list[Outcome]] = {}
    for name, place in places:
        found.setdefault(name, []).append(averaged(list(islice(outcomes, seeds))))
        if name == "none" or place == 2:
            weights = () if name == "none" else getattr(CHOICES[name], task)
            print(_row(name, weights, found[name], found["none"][0]), flush=True)
    return found


def _row(name: str, weights: Any, outcomes: list[Outcome], plain: Outcome) -> str:
    cost = statistics.median(o.seconds for o in outcomes) / plain.seconds
    cells = [
        " · ".join(f"{w:g}" for w in weights),
        " · ".join(f"{o.evaluations:.1f}" for o in outcomes),
        " · ".join(f"{o.score:.2f}" for o in outcomes),
        f"{cost:.1f}×",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def draw(axes: Axes, found: dict[str, list[Outcome]], title: str, score: str) -> None:
    """Draw each penalty's weights as a line from the least to the most."""
    for name, outcomes in found.items():
        x, y, _ = zip(*outcomes, strict=True)
        shape = {"marker": "*", "color": "black", "markersize": 12} if name == "none" else {}
        axes.plot(x, y, **{"marker": "o", "label": name.replace("`", ""), **shape})
    axes.set(title=title, xlabel="evaluations of an adaptive solve", ylabel=score)


def main(seeds: int, steps: int, picture: Path) -> None:
    """Print both tables, and draw them."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    with ProcessPoolExecutor(2, get_context("spawn")) as workers:
        found = table(workers, "plane", "nats", seeds, steps)
        draw(left, found, "eight Gaussians", "−log p, nats")
        found = table(workers, "digits", "wrong, %", seeds, steps)
        draw(right, found, "digits", "wrong, %")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.savefig(picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="?", type=int, default=2)
    parser.add_argument("steps", nargs="?", type=int, default=250)
    parser.add_argument("picture", nargs="?", type=Path, default="regularizers.svg")
    main(**vars(parser.parse_args()))
