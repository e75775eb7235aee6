"""How far apart the weights of several processes and of one are, after 50 steps on the same data.

    python benchmarks/ranks.py [RECIPE]

The processes talk by gloo on this machine; a recipe's batch is shared by them, or taken in parts.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from rnode_dyn import load_recipe
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import read_record

STEPS = 50
PRECISIONS = ("32-true", "64-true")
# Processes, and parts that each takes one after another.
PARTS = ((1, 1), (1, 4), (2, 1), (4, 1))


def trained(recipe: str, precision: str, ranks: int, accumulate: int, folder: Path) -> RunFolder:
    """Train by the command, and return the run."""
    batch = load_recipe(recipe).data.batch_size // (ranks * accumulate)
    sets = [
        "train.accelerator=cpu",
        f"train.devices={ranks}",
        f"train.accumulate={accumulate}",
        f"train.precision={precision}",
        f"train.max_steps={STEPS}",
        "train.threads=1",
        f"data.batch_size={batch}",
        # At its full rate at once, and no more scoring than there must be.
        "train.warmup_steps=0",
        "data.validation_size=0",
        "data.test_size=20",
        "samples.count=1",
    ]
    command = [sys.executable, "-m", "rnode_dyn", "run", recipe, "--output", str(folder)]
    for each in sets:
        command += ["--set", each]
    subprocess.run(command, check=True, capture_output=True)
    return RunFolder(folder)


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    """Return the last weights."""
    return torch.load(run.last_checkpoint, weights_only=True)["state_dict"]


def distance(one: RunFolder, other: RunFolder) -> float:
    """Return the largest difference of a weight."""
    first, second = weights(one), weights(other)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def main(recipe: str) -> None:
    """Print a line for each way to take the same steps."""
    print("precision  processes  parts each  largest difference  s of training")
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            alone = trained(recipe, precision, 1, 1, root / "alone")
            for ranks, accumulate in PARTS:
                there = root / f"{ranks}-{accumulate}"
                run = trained(recipe, precision, ranks, accumulate, there)
                seconds = (read_record(run).summary or {})["training_s"]
                cells = f"{precision:9}  {ranks:9}  {accumulate:10}"
                print(f"{cells}  {distance(alone, run):18.1e}  {seconds:13.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="quickstart")
    main(**vars(parser.parse_args()))
