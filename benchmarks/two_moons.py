"""sbibm's two moons: the posterior p(θ | x) by a conditional flow, scored by C2ST.

The ten observations and their reference posteriors are those of the package sbibm (Lueckmann et
al., Benchmarking simulation-based inference, 2021), of which nothing but these files is used:

    pip download sbibm==1.1.0 --no-deps -d sbibm && unzip sbibm/*.whl -d sbibm
    python benchmarks/two_moons.py sbibm/sbibm --seeds 3
    python benchmarks/two_moons.py sbibm/sbibm --set train.ema=0.99    # another way

What is measured is the recipe ``two-moons``, each seed with 10,000 simulations of its own, of which
1,900 are held out. CPU seconds are those of the training, its validations among them.

C2ST is the held-out accuracy of a classifier between samples of the flow and of the reference:
0.5 where nothing tells them apart. The classifier is sbibm's: two hidden layers of 20 units, on
samples standardised by the reference, in five folds. The best of all classifiers, which knows both
densities, is told beside it.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from two_moons_posterior import best_accuracy

from rnode_dyn import Run, load_recipe, load_run, run  # isort: split

from pytorch_lightning import Callback, LightningModule, Trainer

SIMULATIONS = 10_000


def simulate(count: int) -> tuple[Tensor, Tensor]:
    """Draw parameters from the prior and data given them, ``(count, 2)`` each."""
    theta = 2 * torch.rand(count, 2) - 1
    angle = torch.pi * (torch.rand(count) - 0.5)
    radius = 0.1 + 0.01 * torch.randn(count)
    shift = torch.stack([-theta.sum(1).abs(), theta[:, 1] - theta[:, 0]], dim=1) / 2**0.5
    crescent = torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], dim=1)
    return theta, crescent + shift


class StopWatch(Callback):
    """Counts the CPU seconds of a training."""

    seconds = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start."""
        self.seconds -= time.process_time()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop."""
        self.seconds += time.process_time()


def train(folder: Path, seed: int, sets: list[str]) -> tuple[Run, float]:
    """Run the recipe on simulations of its own; return the run and the training's CPU seconds."""
    torch.manual_seed(seed)
    np.save(folder / "data.npy", torch.cat(simulate(SIMULATIONS), dim=1).numpy())
    recipe = load_recipe("two-moons", [f"data.root={folder}", f"seed={seed}", *sets])
    watch = StopWatch()
    trained = run(recipe, folder / f"run-{seed}", callbacks=[watch])
    return load_run(trained.folder, "last"), watch.seconds


def posterior(trained: Run, observation: Tensor, count: int) -> Tensor:
    """Draw from p(θ | x); what lies beyond the prior, where there is none, is drawn anew."""
    distribution, found = trained.distribution().given(observation), torch.empty(0, 2)
    while len(found) < count:
        drawn = distribution.sample((count,))
        found = torch.cat([found, drawn[(drawn.abs() <= 1).all(1)]])
    return found[:count]


def reference(folder: Path, number: int) -> tuple[Tensor, np.ndarray]:
    """An observation ``(2,)`` and samples of its posterior ``(10000, 2)``."""
    files = folder / "tasks" / "two_moons" / "files" / f"num_observation_{number}"
    observation = np.loadtxt(files / "observation.csv", delimiter=",", skiprows=1)
    samples = np.loadtxt(files / "reference_posterior_samples.csv.bz2", delimiter=",", skiprows=1)
    return torch.as_tensor(observation, dtype=torch.float32), samples


def c2st(samples: np.ndarray, wanted: np.ndarray, folds: int) -> float:
    """Held-out accuracy of a classifier between two sets of samples."""
    rows = (np.concatenate([samples, wanted]) - wanted.mean(0)) / wanted.std(0)
    labels = np.repeat([0, 1], [len(samples), len(wanted)])
    order = np.random.default_rng(1).permutation(len(rows))
    classifier = MLPClassifier((20, 20), max_iter=1000, random_state=1)
    scores = cross_val_score(classifier, rows[order], labels[order], cv=folds)
    return float(scores.mean())


def main() -> None:
    """Train with each seed, and score all observations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the package's folder, with tasks/two_moons")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--folds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    scores, best = [], []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            trained, seconds = train(Path(folder), seed, given.set)
        print(f"seed {seed}: {seconds:.0f} CPU seconds", flush=True)
        for number in range(1, given.observations + 1):
            observation, wanted = reference(given.folder, number)
            samples = posterior(trained, observation, given.samples).numpy()
            scores.append(c2st(samples, wanted[: given.samples], given.folds))
            best.append(best_accuracy(trained.distribution().given(observation), observation))
            said = f"{scores[-1]:.3f}, the best classifier {best[-1]:.3f}"
            print(f"seed {seed}  observation {number}: {said}", flush=True)
    mean, least = np.mean(scores), np.mean(best)
    print(f"C2ST, mean of {len(scores)}: {mean:.4f}, the best classifier {least:.4f}")


if __name__ == "__main__":
    main()
