"""A training that ends within its warm-up is told so; others are not."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rnode_dyn import run
from rnode_dyn.training.loop.warm_up import tell_of_warm_ups
from tests.tiny import tiny

MATCHING = {"objective": "flow-matching", "learning_rate": 0.2}


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"max_steps": 3, "warmup_steps": 3}, []),
        ({"max_steps": 3, "warmup_steps": 6}, ["train.warmup_steps = 6"]),
        ({"epochs": 3, "warmup_steps": 6}, []),
        (
            {"stage": [{**MATCHING, "max_steps": 2, "warmup_steps": 8}, {"max_steps": 2}]},
            ["train.stage.0.warmup_steps = 8"],
        ),
        (
            {"warmup_steps": 4, "stage": [{**MATCHING, "max_steps": 4}, {"max_steps": 1}]},
            ["train.stage.1.warmup_steps = 4"],
        ),
    ],
)
def test_a_warm_up_that_does_not_end_is_told_by_its_key(
    train: dict[str, Any], said: list[str]
) -> None:
    told: list[str] = []
    recipe = tiny(**{"epochs": None, **train})
    tell_of_warm_ups(recipe, told.append)
    assert [text.partition(",")[0] for text in told] == said


def test_the_rate_that_is_reached_is_that_of_the_last_step(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    recipe = tiny(epochs=None, max_steps=3, warmup_steps=4, learning_rate=0.02)
    run(recipe, tmp_path / "run", console=console)
    assert "never comes to 0.02, but to 0.015" in console.file.getvalue()  # type: ignore[attr-defined]
