"""Trainings that are over in a second, and what has to be the same after they were killed."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rnode_dyn import Recipe
from rnode_dyn.data import pictures
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.folder import RunFolder

_DIGITS = {"dataset": "digits", "batch_size": 16, "train_size": 64, "validation_size": 8,
           "test_size": 8}  # fmt: skip
_SMALL = {
    "name": "small",
    "seed": 3,
    "data": _DIGITS,
    "model": {"logit_alpha": 0.01, "field": {"kind": "mlp", "hidden": [8]}},
    "solver": {
        "algorithm": "euler",
        "step": 0.5,
        "sensitivity": "discrete",
        "eval": {"algorithm": "euler", "step": 0.5},
    },
    "regularizers": {"kinetic_energy": 0.01},
    "samples": {"count": 1, "temperatures": [1.0]},
}


def _with(**tables: Any) -> Recipe:
    return Recipe.model_validate({**_SMALL, **tables})


def stages() -> Recipe:
    """A warm start and the likelihood, averaged, validated and saved in the midst of epochs."""
    table = [{"objective": "flow-matching", "max_steps": 7}, {"max_steps": 8}]
    often = {"validate_every_steps": 3, "checkpoint_every_steps": 2}
    return _with(train={"stage": table, "ema": 0.9, "learning_rate": 0.02, **often})


def labelled() -> Recipe:
    """A field with constants, averaged; labels left out; its own pairs; learned noise; Muon."""
    model = {
        "logit_alpha": 0.01,
        "scales": 1,
        "field": {"kind": "unet", "width": 8, "levels": 1},
        "condition": {"embedding": 4, "dropout": 0.2},
    }
    matching = {"objective": "flow-matching", "max_steps": 3}
    again = {**matching, "coupling": "reflow", "ema": 0.5}
    train = {
        "stage": [{**matching, "weighting": "likelihood"}, again, {"max_steps": 4}],
        "optimizer": {"name": "muon"},
        "ema": 0.9,
        "learning_rate": 0.02,
        "validate_every_steps": 3,
        "checkpoint_every_steps": 2,
    }
    data = {**_DIGITS, "condition": "label", "dequantization": "variational"}
    return _with(data=data, model=model, train=train)


def governed() -> Recipe:
    """Epochs, a schedule, and steps that the training chooses."""
    solver = {**_SMALL["solver"], "algorithm": "rk4", "step": "auto"}
    train = {
        "epochs": 3,
        "schedule": "cosine",
        "checkpoint_every_steps": 1,
        "governor": {"every": 3, "points": 8},
        "validate_every": 2,
    }
    return _with(solver=solver, train=train)


def workers(root: Path) -> Recipe:
    """Pictures that two processes read while the training goes on, half of them mirrored."""
    data = {"dataset": "folder", "root": str(root), "channels": 1, "image_size": 8,
            "batch_size": 8, "validation_size": 8, "flips": True, "workers": 2}  # fmt: skip
    model = {"logit_alpha": 0.01, "field": {"kind": "conv", "hidden": [2]}}
    return _with(data=data, model=model, train={"epochs": 3, "checkpoint_every_steps": 1})


def draw_pictures(root: Path) -> None:
    """Write small pictures, which are too many for memory from here on."""
    pictures.IN_MEMORY_BYTES = 0
    random = np.random.default_rng(0)
    for part, count in (("train", 48), ("test", 4)):
        (root / part).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            pixels = random.integers(256, size=(8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / part / f"{k:02}.png")


def differences(one: Path, other: Path) -> list[str]:
    """Return in what two finished runs differ, but for how long they took."""
    first, second = RunFolder(one), RunFolder(other)
    names = sorted(path.name for path in first.checkpoints.iterdir())
    found = [] if names == sorted(p.name for p in second.checkpoints.iterdir()) else ["files"]
    for name in names:
        if name.startswith("stage-"):  # weights alone
            pair = (read_checkpoint(f.checkpoints / name)["state_dict"] for f in (first, second))
            found += [f"{name}: {key}" for key in _unlike(*pair)]
            continue
        pair = (read_checkpoint(folder.checkpoints / name) for folder in (first, second))
        found += [f"{name}: {key}" for key in _unlike(*map(_flat, pair))]
    if rows_of(first) != rows_of(second):
        found.append("metrics.csv")
    if _figures(first) != _figures(second):
        found.append("summary.json")
    return found


def rows_of(folder: RunFolder) -> list[dict[str, str]]:
    """Return the rows of metrics.csv, without the clock."""
    with folder.metrics.open(newline="") as file:
        return [{**row, "training_s": ""} for row in csv.DictReader(file)]


def _figures(folder: RunFolder) -> dict[str, Any]:
    figures = json.loads(folder.summary.read_text())
    return {k: v for k, v in figures.items() if k not in ("wall_clock_s", "training_s")}


_CLOCKS = ("training_s", "wall_clock_s", "time_elapsed", "dirpath", "model_path", "best_k_models")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(f"{path}.{key}", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{path}.{k}", item) for k, item in enumerate(value)]
    else:
        return {path: value}
    kept = [(key, item) for key, item in items if not any(clock in key for clock in _CLOCKS)]
    return {k: v for key, item in kept for k, v in _flat(item, key).items()}


def _unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    keys = sorted({*one, *other})
    # How Lightning counts, and what was random before a step was seeded, may be told otherwise.
    judged = [k for k in keys if not k.startswith((".loops", ".rnode_dyn_resume.random.torch"))]
    return [key for key in judged if not _same(one.get(key), other.get(key))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and (one == other or one != one)
