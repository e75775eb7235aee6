"""A training that ends within its warm-up is told so; others are not."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rnode_dyn import run
from tests.tiny import tiny

MATCHING = {"objective": "flow-matching", "learning_rate": 0.2}


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"max_steps": 3, "warmup_steps": 3}, ""),
        ({"max_steps": 3, "warmup_steps": 4}, "train.warmup_steps = 4, and the training ends after "
         "3 steps: the learning rate never comes to 0.02, but to 0.015"),
        ({"epochs": 2, "warmup_steps": 8}, ""),
        ({"epochs": 2, "warmup_steps": 10}, "train.warmup_steps = 10, and the training ends after "
         "8 steps: the learning rate never comes to 0.02, but to 0.016"),
        ({"epochs": 1, "max_steps": 50, "warmup_steps": 10}, "ends after 4 steps"),
        (
            {"stage": [{**MATCHING, "max_steps": 2, "warmup_steps": 8}, {"max_steps": 2}]},
            "train.stage.0.warmup_steps = 8, and the training ends after 2 steps: the learning "
            "rate never comes to 0.2, but to 0.05",
        ),
        (
            {"warmup_steps": 4, "stage": [{**MATCHING, "max_steps": 4}, {"max_steps": 1}]},
            "train.warmup_steps = 4, and the training ends after 1 steps",
        ),
    ],
)  # fmt: skip
def test_a_warm_up_that_does_not_end_is_told(
    train: dict[str, Any], said: str, tmp_path: Path
) -> None:
    written = io.StringIO()
    recipe = tiny(**{"epochs": None, **train})
    run(recipe, tmp_path / "run", console=Console(file=written, width=400))
    lines = [line for line in written.getvalue().splitlines() if "warmup_steps" in line]
    assert len(lines) == bool(said)
    assert all(said in line for line in lines)
