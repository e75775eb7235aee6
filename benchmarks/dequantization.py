"""What learned dequantization is worth at equal time, on 14×14 digits.

    python benchmarks/dequantization.py --root data --matching 30 --after 60

A U-Net is matched, which leaves the noise as it is; then the regularized likelihood goes on twice
for as long, with uniform noise and with noise that a small flow learns. Times are CPU seconds of
one thread. Bits/dim by dopri5 at 1e-5; those of learned noise are a variational bound, both bound
the pixels' own. The difference is paired: the same digits, and the same uniform noise.
"""

import argparse
import math

import torch
from matched_ablation import BEHIND_A_LOGIT, Task, penalised
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    Dopri5,
    FlowMatching,
    MultiscaleFlow,
    Solver,
    build_model,
    load_recipe,
)
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.recipe.build import load_splits


class Dequantized(Task):
    """The task with noise of a kind."""

    def __init__(self, kind: str, root: str, points: int) -> None:
        super().__init__(root, 0, points, 0)
        self.recipe = load_recipe(
            "mnist14-unet",
            [
                f"data.root={root}",
                f"data.test_size={points}",
                f"data.dequantization={kind}",
                *BEHIND_A_LOGIT,
            ],
        )
        self.splits = load_splits(self.recipe)

    def begun_as(self, other: MultiscaleFlow) -> MultiscaleFlow:
        """A flow of this kind with another's fields."""
        flow = build_model(self.recipe, self.splits.event)
        flow.scales.load_state_dict(other.scales.state_dict())
        return flow

    @torch.no_grad()
    def scores(self, flow: MultiscaleFlow) -> Tensor:
        """Bits/dim of each test digit."""
        for block in flow.eval().blocks:
            block.eval_solver = Solver(Dopri5(), AdaptiveStep(1e-5, 1e-5))
        torch.manual_seed(1)
        u = self.dequantize(self.splits.test.head(len(self.splits.test)))
        return bits_of(flow(u), self.splits.event)


def main() -> None:
    """Train both, and print their bits/dim and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data")
    parser.add_argument("--matching", type=float, default=30.0, help="CPU seconds")
    parser.add_argument("--after", type=float, default=60.0, help="CPU seconds")
    parser.add_argument("--points", type=int, default=200, help="test digits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tasks = {
        kind: Dequantized(kind, given.root, given.points) for kind in ("uniform", "variational")
    }
    start = tasks["uniform"].flow()
    tasks["uniform"].train(start, FlowMatching(), 2e-3, given.matching)
    found = {}
    for kind, task in tasks.items():
        flow = task.begun_as(start)
        updates = task.train(flow, penalised(0.01, 0.01), 5e-4, given.after)
        found[kind] = task.scores(flow)
        print(f"{kind}: {found[kind].mean():.3f} bits/dim after {updates} updates", flush=True)
    gain = found["uniform"] - found["variational"]
    error = float(gain.std()) / math.sqrt(len(gain))
    print(f"gain of learned noise: {gain.mean():.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
