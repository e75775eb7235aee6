"""A small recipe that trains in seconds, and what tests ask of its runs."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rnode_dyn import Recipe, run
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.loop.module import FlowTraining

TINY = {
    "name": "tiny",
    "seed": 3,
    "data": {"dataset": "digits", "batch_size": 64, "train_size": 256, "validation_size": 50,
             "test_size": 60},
    "model": {"logit_alpha": 0.01, "field": {"kind": "mlp", "hidden": [16]}},
    "solver": {"algorithm": "rk4", "step": 0.5, "sensitivity": "discrete"},
    "divergence": {"noise": "rademacher"},
    "regularizers": {"kinetic_energy": 0.01, "jacobian_frobenius": 0.01},
    "train": {"epochs": 2, "learning_rate": 2e-2},
    "samples": {"count": 4},
}  # fmt: skip


def tiny(**train: object) -> Recipe:
    """The small recipe, trained as asked."""
    return Recipe.model_validate({**TINY, "train": {**TINY["train"], **train}})  # type: ignore[dict-item]


def run_until(step: int, recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a recipe, and interrupt it before the update of that number, stages counted on."""

    def interrupt(module: FlowTraining, batch: Tensor, batch_idx: int) -> None:
        if module.steps == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FlowTraining, "on_train_batch_start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(RunFolder(folder).last_checkpoint, weights_only=True)["state_dict"]


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
