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
from digits import Digits
from matched_ablation import penalised, train
from torch.optim import Adam

from rnode_dyn import AdaptiveStep, Dopri5, FlowMatching, MultiscaleFlow, Solver

BEHIND_A_LOGIT = ("model.logit_alpha=1e-5", "model.field.skip=false", "train.stage.0.targets=drawn")
TO_1E_5 = Solver(Dopri5(), AdaptiveStep(1e-5, 1e-5))


def begun_as(other: MultiscaleFlow, task: Digits) -> MultiscaleFlow:
    """A task's flow with another's fields."""
    flow = task.flow()
    flow.scales.load_state_dict(other.scales.state_dict())
    return flow


def main() -> None:
    """Train both, and print their bits/dim and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data")
    parser.add_argument("--matching", type=float, default=30.0, help="CPU seconds")
    parser.add_argument("--after", type=float, default=60.0, help="CPU seconds")
    parser.add_argument("--points", type=int, default=200, help="test digits")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kinds = ("uniform", "variational")
    tasks = {
        kind: Digits(given.root, 0, given.points, (*BEHIND_A_LOGIT, f"data.dequantization={kind}"))
        for kind in kinds
    }
    start = tasks["uniform"].flow()
    adam = Adam(start.parameters(), 2e-3)
    train(tasks["uniform"], start, FlowMatching(), given.matching, adam)
    found = {}
    for kind, task in tasks.items():
        flow = begun_as(start, task)
        adam = Adam(flow.parameters(), 5e-4)
        updates = train(task, flow, penalised(0.01, 0.01), given.after, adam)
        found[kind] = task.scores(flow, TO_1E_5)
        print(f"{kind}: {found[kind].mean():.3f} bits/dim after {updates} updates", flush=True)
    gain = found["uniform"] - found["variational"]
    error = float(gain.std()) / math.sqrt(len(gain))
    print(f"gain of learned noise: {gain.mean():.4f} ± {error:.4f}")


if __name__ == "__main__":
    main()
