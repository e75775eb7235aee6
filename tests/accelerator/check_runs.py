"""A whole run on the device, from the recipe to its report, ends as it does on the CPU."""

from pathlib import Path

import pytest

from rnode_dyn import Recipe, run
from tests.accelerator.lightning import on_the_stand_in
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("accel")

STAGES = [
    {"objective": "flow-matching", "max_steps": 2},
    {"objective": "likelihood", "max_steps": 3},
]


def recipe(**train: object) -> Recipe:
    model = {**TINY["model"], "field": {"kind": "conv", "hidden": [4]}, "scales": "auto"}  # type: ignore[dict-item]
    return Recipe.model_validate(
        {
            **TINY,
            "model": model,
            "train": {"stage": STAGES, "clip": 1.0, "ema": 0.5, **train},
            "samples": {"count": 4, "every": 1},
        }
    )


def test_a_run(tmp_path: Path) -> None:
    expected = run(recipe(), tmp_path / "cpu").summary
    with on_the_stand_in():
        found = run(recipe(), tmp_path / "accel").summary
    from tests.accelerator import lightning
    print(lightning.SEEN)
    assert found == expected
