"""Real processes: what several train is what one trains, and what breaks in one ends in all."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from rnode_dyn import Recipe, run
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import read_record
from tests.ranks.launch import job, launch, table
from tests.tiny import same_weights, weights

# Changes of the recipe, and how far apart the weights may be.
SAME: dict[str, tuple[dict[str, Any], float]] = {
    "double": ({}, 1e-12),
    "single": (
        {
            "precision": "32-true",
            "train": {
                "max_steps": None,
                "epochs": None,
                "stage": [{"objective": "flow-matching", "max_steps": 25}, {"max_steps": 50}],
            },
        },
        1e-6,
    ),
    "unequal": ({"data": {"train_size": 61}, "train": {"max_steps": 8}}, 1e-12),
    "convolutions": (
        {
            "model": {"logit_alpha": 0.01, "field": {"kind": "conv", "hidden": [6, 6]}},
            "train": {"max_steps": 8},
        },
        1e-12,
    ),
    "unet": (
        {
            "data": {"validation_size": 8, "test_size": 8},
            "model": {"field": {"kind": "unet", "width": 8, "levels": 2}},
            "train": {
                "max_steps": None,
                "epochs": None,
                "stage": [{"objective": "flow-matching", "max_steps": 8}],
            },
        },
        1e-12,
    ),
    # What a step draws or chooses, all of it at once.
    "together": (
        {
            "data": {
                "condition": "label",
                "dequantization": "variational",
                "flips": True,
                "validation_size": 40,
                "test_size": 4,
            },
            "model": {
                "logit_alpha": 0.01,
                "end_time": [0.75, 1.25],
                "condition": {"dropout": 0.5},
                "field": {"kind": "conv", "hidden": [4]},
            },
            "solver": {
                "algorithm": "rk4",
                "step": "auto",
                "sensitivity": "discrete",
                "quadrature": {"rule": "stratified", "nodes": 2},
                "eval": {"algorithm": "rk4", "step": 0.25},
            },
            "train": {
                "max_steps": None,
                "epochs": None,
                "micro_batch": 8,
                "ema": 0.9,
                "clip": 0.1,
                "governor": {"every": 2, "tolerance": 1e-3},
                "stage": [
                    {"objective": "flow-matching", "times": "near-data", "max_steps": 3},
                    {"objective": "flow-matching", "coupling": "reflow", "max_steps": 2},
                    {"max_steps": 4},
                ],
            },
        },
        1e-12,
    ),
}
ADAPTIVE = {
    "solver": {"algorithm": "dopri5", "rtol": 1e-3, "atol": 1e-3},
    "train": {"max_steps": 8},
}
BROKEN = {"train": {"learning_rate": 1e30, "max_steps": 8}}
WITHIN_AN_EPOCH, LATER = 7, 14


def steps(count: int) -> dict[str, Any]:
    return {"train": {"max_steps": count}}


class Ranks:
    """What processes and one process made of the same recipes."""

    def __init__(self, ranks: int, folder: Path) -> None:
        self.ranks, self.folder = ranks, folder
        jobs = [job(folder / name, table(ranks, **changes)) for name, (changes, _) in SAME.items()]
        jobs.append(job(folder / "whole", table(ranks, **steps(LATER))))
        jobs.append(job(folder / "parts", table(ranks, **steps(WITHIN_AN_EPOCH))))
        jobs.append(job(folder / "parts", table(ranks, **steps(LATER)), resume=True))
        jobs.append(job(folder / "adaptive", table(ranks, **ADAPTIVE)))
        jobs.append(job(folder / "broken", table(ranks, **BROKEN)))
        self.ends = launch(jobs, ranks, folder)

    def alone(self, name: str, **changes: Any) -> Path:
        return run(Recipe.model_validate(table(1, **changes)), self.folder / f"{name}-alone").folder


@pytest.fixture(
    scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)], ids=lambda n: f"ranks{n}"
)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    return Ranks(request.param, tmp_path_factory.mktemp("ranks"))


def distance(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("name", SAME)
def test_the_same_batches_give_the_weights_of_one_process(ranks: Ranks, name: str) -> None:
    changes, tolerance = SAME[name]
    alone = ranks.alone(name, **changes)
    assert distance(ranks.folder / name, alone) < tolerance
    assert scores(ranks.folder / name) == pytest.approx(scores(alone), abs=tolerance)
    assert gaps(ranks.folder / name) == pytest.approx(gaps(alone), rel=1e-6)


def test_parts_taken_one_after_another_give_them_too(ranks: Ranks) -> None:
    changes, tolerance = SAME["together"]
    count, together = ranks.ranks, ranks.folder / "together"
    train = {**changes["train"], "accumulate": count}
    data = {**changes["data"], "batch_size": 64 // count}
    parts = ranks.alone("parted", **{**changes, "train": train, "data": data})
    assert distance(parts, together) < tolerance
    assert gaps(parts) == pytest.approx(gaps(together), rel=1e-6)


def gaps(folder: Path) -> list[float]:
    """What the governor found at each of its looks, where there is one."""
    with RunFolder(folder).metrics.open() as file:
        found = [row.get("governor/gap") for row in csv.DictReader(file)]
    return [float(gap) for gap in found if gap]


def scores(folder: Path) -> list[float]:
    return [score.bits for score in read_record(RunFolder(folder)).held_out]


def test_resuming_within_an_epoch_repeats_bit_for_bit(ranks: Ranks) -> None:
    assert same_weights(ranks.folder / "whole", ranks.folder / "parts")


def test_other_processes_go_on_with_the_same_batches(ranks: Ranks) -> None:
    """One process, and one that takes each step in as many parts, go on in the epoch's middle."""
    folder = ranks.alone("going-on", **steps(WITHIN_AN_EPOCH))
    accumulated = {"max_steps": LATER, "accumulate": ranks.ranks}
    changed = table(1, train=accumulated, data={"batch_size": 64 // ranks.ranks})
    run(Recipe.model_validate(changed), folder, resume=True)
    assert distance(ranks.folder / "whole", folder) < 1e-12


def test_no_process_writes_but_the_first(ranks: Ranks) -> None:
    written = {path.name for path in (ranks.folder / "whole").rglob("*") if path.is_file()}
    assert written >= {"last.ckpt", "best.ckpt", "summary.json", "metrics.csv"}
    assert len((ranks.folder / "whole" / "metrics.csv").read_text().splitlines()) < 10


def test_processes_that_need_other_numbers_of_steps_keep_the_same_weights(ranks: Ranks) -> None:
    adaptive = [ends["adaptive"] for ends in ranks.ends]
    assert len({end["weights"] for end in adaptive}) == 1
    assert torch.isfinite(torch.tensor(scores(ranks.folder / "adaptive"))).all()


def test_what_breaks_is_told_by_all(ranks: Ranks) -> None:
    first, *others = [ends["broken"] for ends in ranks.ends]
    assert first["error"].startswith("DivergedError: step ")
    assert "process 0: samples " in first["error"]
    assert "block " in first["error"]
    assert all(end == {"exit": 0} for end in others)
