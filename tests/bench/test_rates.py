"""How fast this machine is: timed as a training computes, in its precision and with its threads."""

from typing import Any

import pytest
import torch

from rnode_dyn import FlowMatching, Likelihood, Recipe
from rnode_dyn.bench import measure
from rnode_dyn.bench.rates import measure_rates
from rnode_dyn.costs.whole import EVALUATION, run_hours
from rnode_dyn.recipe.build import build_model, describe_event
from rnode_dyn.recipe.schema import Recipe as Schema
from tests.tiny import TINY

MATCHED = [{"objective": "flow-matching", "batch_size": 2}, {"objective": "likelihood"}]


def recipe_with(**train: Any) -> Schema:
    return Recipe.model_validate({**TINY, "train": {"max_steps": 1, "stage": MATCHED, **train}})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What every loss was computed in: objective, gradient, autocast, weights, threads."""
    noted: list[tuple[Any, ...]] = []
    for objective in (Likelihood, FlowMatching):
        own = objective.loss

        def loss(self: Any, model: Any, *given: Any, own: Any = own, **named: Any) -> Any:
            weights = next(model.parameters()).dtype
            mixed = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
            threads = torch.get_num_threads()
            noted.append((type(self), torch.is_grad_enabled(), mixed, weights, threads))
            return own(self, model, *given, **named)

        monkeypatch.setattr(objective, "loss", loss)
    return noted


@pytest.mark.parametrize(
    ("precision", "mixed", "weights", "scored"),
    [
        ("32-true", None, torch.float32, torch.float32),
        ("bf16-mixed", torch.bfloat16, torch.float32, torch.float32),
        ("bf16-true", None, torch.bfloat16, torch.float32),
        ("64-true", None, torch.float64, torch.float64),
    ],
)
def test_steps_are_timed_in_the_precision_of_the_training(
    seen: list[tuple[Any, ...]], precision: str, mixed: Any, weights: Any, scored: Any
) -> None:
    rates = measure_rates(recipe_with(precision=precision, threads=1))
    assert set(rates) == {"flow-matching", "likelihood", EVALUATION}
    steps = {(Likelihood, True, mixed, weights, 1), (FlowMatching, True, mixed, weights, 1)}
    assert set(seen) == {*steps, (Likelihood, False, None, scored, 1)}


def test_the_threads_are_said_and_put_back() -> None:
    before = torch.get_num_threads()
    rates = measure_rates(recipe_with(threads=1))
    assert all("1 threads" in rate.source for rate in rates.values())
    assert torch.get_num_threads() == before


def test_the_first_step_of_a_size_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and kernels are set up for a shape in its first step: here it takes nine times."""
    known: set[int] = set()
    now = [0.0]

    def take(self: measure.Step, size: int) -> Any:
        def step() -> None:
            now[0] += size / 100 * (1 if size in known else 9)
            known.add(size)

        return step

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure.Step, "on", take)
    monkeypatch.setattr(measure.Step, "flops", lambda self, size: 1000 * size)
    recipe = recipe_with()
    event = describe_event(recipe)
    speed = measure.measure_speed(build_model(recipe, event), event, 8)
    assert (speed.batch_size, speed.seconds) == (8, pytest.approx(0.08))
    assert speed.flops_per_second == pytest.approx(100_000)


def test_scores_take_the_rate_of_an_evaluation() -> None:
    recipe = recipe_with()
    event = describe_event(recipe)
    model, stages = build_model(recipe, event), [{"hours": 1.0}, {"hours": 1.0}]
    rates = measure_rates(recipe)
    found = run_hours(recipe, model, event, stages, 64, rates)
    faster = {**rates, EVALUATION: type(rates[EVALUATION])(1e30, "wished")}
    wished = run_hours(recipe, model, event, stages, 64, faster)
    assert found is not None
    assert wished is not None
    assert found["training"] == wished["training"] == 2.0
    assert found["test"] > 1e6 * wished["test"] > 0
