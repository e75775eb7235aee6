"""Timings of training steps: which there are, what they count, and that they leave no trace."""

import json

import pytest
import torch
from typer.testing import CliRunner

from rnode_dyn import Recipe
from rnode_dyn.bench.bench import OWN, bench
from rnode_dyn.cli import app
from rnode_dyn.recipe.build import SENSITIVITIES
from tests.tiny import TINY

RK4_TWO_STEPS = 8
KINDS = [OWN, *(f"{OWN}, {name}" for name in SENSITIVITIES), f"{OWN}, no gradient", "flow-matching"]


@pytest.fixture(scope="module")
def timed():
    return bench(Recipe.model_validate(TINY), batch_size=3, rounds=2)


def test_every_kind_is_timed_once_a_round(timed) -> None:
    assert [step.name for step in timed.steps] == KINDS
    assert all(step.seconds > 0 and step.relative > 0 for step in timed.steps)
    assert timed.steps[0].relative == 1.0
    assert (timed.batch_size, timed.rounds) == (3, 2)


def test_evaluations_are_those_of_the_kind(timed) -> None:
    counts = {step.name: (step.evaluations, step.evaluations_backward) for step in timed.steps}
    assert {counts[name][0] for name in KINDS[:-1]} == {RK4_TWO_STEPS}
    assert counts[OWN] == counts[f"{OWN}, discrete"]  # the recipe's own
    assert counts[f"{OWN}, no gradient"] == (RK4_TWO_STEPS, 0)
    assert counts[f"{OWN}, backsolve"][1] >= RK4_TWO_STEPS
    assert counts["flow-matching"] == (0, 0)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "bf16-true"])
def test_every_precision_is_timed(precision: str) -> None:
    """Pixels near the ends of the logit, too, which coarse numbers would round to infinity."""
    model = {**TINY["model"], "logit_alpha": 1e-5}
    table = {**TINY, "model": model, "train": {"max_steps": 1, "precision": precision}}
    found = bench(Recipe.model_validate(table), batch_size=2, rounds=1)
    assert found.precision == precision
    assert len(found.steps) == len(KINDS)


def test_timing_leaves_the_random_state_and_the_threads() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    bench(Recipe.model_validate(TINY), batch_size=2, rounds=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def call(*arguments: object):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)], catch_exceptions=False)


def test_the_command_prints_a_table_and_json() -> None:
    options = ("quickstart", "--batch-size", 2, "--rounds", 1)
    text = call(*options).stdout
    assert all(name in text for name in KINDS)
    printed = json.loads(call(*options, "--json").stdout)
    assert printed["name"] == "quickstart"
    assert [step["name"] for step in printed["steps"]] == KINDS


@pytest.mark.parametrize(
    "options",
    [
        ["quickstarts"],
        ["quickstart", "--rounds", 0],
        ["quickstart", "--set", "train.accelerator=tpu"],
    ],
)
def test_wrong_usage_exits_2(options: list[object]) -> None:
    result = call(*options)
    assert result.exit_code == 2
    assert result.stderr
