"""What a plain solve costs beside another checkout of the package: time of the CPU, and operations.

    python benchmarks/plain_path.py PATH [--rounds 200]

Both are loaded in one process and solve by turns, so that whatever else the machine does meets
both. For each kind of solve it prints the median over the rounds of the ratio of the time of the
CPU, ours by theirs, with its quartiles; the ratio of the least times, which other work disturbs
less; and how many operations torch dispatches in each, which depend on no machine.
"""

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Run = Callable[[], object]


class Count(TorchDispatchMode):
    """Counts the operations that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += 1
        return function(*args, **(kwargs or {}))


def loaded(path: Path) -> ModuleType:
    """Load the package of a checkout, whatever other one is loaded."""
    for name in [name for name in sys.modules if name.split(".")[0] == "rnode_dyn"]:
        del sys.modules[name]
    sys.path.insert(0, str(path))
    try:
        package = importlib.import_module("rnode_dyn")
        # Names are imported when they are asked for: now, while they are found here.
        for name in ("ODEProblem", "Solver", "solve", "RK4", "Dopri5", "FixedStep", "AdaptiveStep"):
            getattr(package, name)
        assert Path(str(package.__file__)).is_relative_to(path.resolve())
        return package
    finally:
        sys.path.remove(str(path))


def field_of(dimension: int) -> nn.Module:
    """A perceptron of two layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(dimension, 64), nn.Tanh(), nn.Linear(64, dimension))


def run_of(package: ModuleType, dimension: int, adaptive: bool, gradient: bool) -> Run:
    """One kind of solve by a package."""
    network = field_of(dimension)
    start = torch.linspace(-1.0, 1.0, 32 * dimension).reshape(32, dimension)

    def field(t: Tensor, x: Tensor) -> Tensor:
        return network(x)

    solver = (
        package.Solver(package.Dopri5(), package.AdaptiveStep(1e-5, 1e-5))
        if adaptive
        else package.Solver(package.RK4(), package.FixedStep(0.1))
    )

    def run() -> Tensor:
        with torch.set_grad_enabled(gradient):
            end = package.solve(package.ODEProblem(field, start, (0.0, 1.0)), solver).x[-1]
        if gradient:
            network.zero_grad()
            end.square().mean().backward()
        return end.detach()

    return run


def seconds(run: Run) -> float:
    """The CPU's time for one run."""
    began = time.process_time()
    run()
    return time.process_time() - began


def operations(run: Run) -> int:
    """What torch dispatches in one run."""
    with Count() as count:
        run()
    return count.operations


def timed(ours: Run, theirs: Run, rounds: int) -> tuple[list[float], list[float]]:
    """The times of pairs of runs that follow each other, each first by turns."""
    pairs = []
    for i in range(rounds):
        if i % 2:
            pairs.append((seconds(ours), seconds(theirs)))
        else:
            pairs.append((seconds(theirs), seconds(ours))[::-1])
    our_times, their_times = zip(*pairs, strict=True)
    return list(our_times), list(their_times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("path", type=Path, help="another checkout of the package")
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    theirs, ours = loaded(given.path.resolve()), loaded(Path(__file__).resolve().parents[1])
    print("| solve | time, ours / theirs | quartiles | of the least times | operations |")
    print("|---|---|---|---|---|")
    for adaptive in (False, True):
        for dimension in (2, 64):
            for gradient in (False, True):
                runs = [run_of(p, dimension, adaptive, gradient) for p in (ours, theirs)]
                torch.testing.assert_close(runs[0](), runs[1]())
                counts = [operations(run) for run in runs]
                times = timed(runs[0], runs[1], given.rounds)
                found = [a / b for a, b in zip(*times, strict=True)]
                low, middle, high = statistics.quantiles(found, n=4)
                least = min(times[0]) / min(times[1])
                name = f"{'Dopri5, 1e-5' if adaptive else 'RK4, 10 steps'}, {dimension}-D"
                name += ", with gradient" if gradient else ""
                told = f"{middle:.3f} | {low:.3f} … {high:.3f} | {least:.3f}"
                told += f" | {counts[0]} / {counts[1]}"
                print(f"| {name} | {told} |", flush=True)


if __name__ == "__main__":
    main()
