"""How fast this machine is: timed as a training computes, in its precision and with its threads."""

from typing import Any

import pytest
import torch

from rnode_dyn import FlowMatching, Likelihood, Recipe
from rnode_dyn.bench import measure
from rnode_dyn.bench import rates as rates_of
from rnode_dyn.bench.rates import measure_rates
from rnode_dyn.costs.cost import training_cost
from rnode_dyn.costs.stages import stage_figures
from rnode_dyn.costs.whole import EVALUATION, VALIDATION, run_hours
from rnode_dyn.numerics.threads import torch_threads
from rnode_dyn.recipe.build import build_model, describe_event
from rnode_dyn.recipe.schema import Recipe as Schema
from tests.tiny import TINY

MATCHED = [
    {"objective": "flow-matching", "batch_size": 2, "max_steps": 1},
    {"objective": "likelihood", "max_steps": 1},
]


def recipe_with(**train: Any) -> Schema:
    return Recipe.model_validate({**TINY, "train": {"stage": MATCHED, **train}})


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
    own = {"stage 0", "stage 1", "flow-matching", "likelihood", EVALUATION}
    assert set(rates) == own | ({VALIDATION} if mixed else set())
    steps = {(Likelihood, True, mixed, weights, 1), (FlowMatching, True, mixed, weights, 1)}
    validated = {(Likelihood, False, mixed, scored, 1)} if mixed else set()
    assert set(seen) == {*steps, *validated, (Likelihood, False, None, scored, 1)}


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[type, bool], set[int]]:
    """On how many samples steps were taken, by objective and whether there was a gradient."""
    found: dict[tuple[type, bool], set[int]] = {}
    own = measure.Step.on

    def on(self: measure.Step, size: int) -> Any:
        found.setdefault((type(self.objective), self.gradient), set()).add(size)
        return own(self, size)

    monkeypatch.setattr(measure.Step, "on", on)
    return found


def test_steps_are_of_a_stages_batch_or_of_a_piece_of_it(
    sizes: dict[tuple[type, bool], set[int]],
) -> None:
    recipe = recipe_with(micro_batch=16)
    data = recipe.data.model_copy(update={"eval_batch_size": 40})
    measure_rates(recipe.model_copy(update={"data": data}))
    largest = {kind: max(found) for kind, found in sizes.items()}
    assert largest == {(FlowMatching, True): 2, (Likelihood, True): 16, (Likelihood, False): 40}


def test_stages_of_one_objective_have_rates_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_of, "speed_at", lambda step, size: measure.Speed(size, size, 1, "x"))
    monkeypatch.setattr(rates_of, "size_of_a_second", lambda step, size: size)
    large = {"objective": "flow-matching", "batch_size": 32, "max_steps": 10}
    again = {**large, "coupling": "reflow"}
    recipe = recipe_with(stage=[large, {**large, "batch_size": 2}, again, {"max_steps": 1}])
    rates = measure_rates(recipe)
    found = {name: rate.flops_per_second for name, rate in rates.items()}
    assert found == {
        "stage 0": 32,
        "stage 1": 2,
        "flow-matching": 2,
        "stage 3": 64,
        "likelihood": 64,
        EVALUATION: 64,
    }
    model = build_model(recipe)
    hours = [
        stage["hours"] * found[name] / stage["flops_per_image_step"]
        for name, stage in zip(
            ("stage 0", "stage 1", "flow-matching", "stage 3"),
            stage_figures(recipe, model, training_cost(model, 64), 64, rates),
            strict=True,
        )
    ]
    assert hours == pytest.approx([320 / 3600, 20 / 3600, 320 / 3600, 64 / 3600])


def test_every_stage_chooses_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def choose(step: Any) -> int:
        tried.append(torch.get_num_threads())
        return 1

    monkeypatch.setattr(rates_of, "faster_threads", choose)
    with torch_threads(3):
        rates = measure_rates(recipe_with(threads="auto"))
        assert torch.get_num_threads() == 3
    assert tried == [3, 3]
    assert all("1 threads" in rate.source for rate in rates.values())


def test_solves_of_random_length_are_judged_by_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that make other numbers of evaluations each are compared with their own number."""
    now, made = [0.0], [0]

    def take(self: measure.Step, size: int) -> Any:
        def step() -> None:
            made[0] = made[0] * 7 % 11 + 1
            now[0] += made[0] / 100

        return step

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure.Step, "on", take)
    monkeypatch.setattr(measure.Step, "flops", lambda self, size: 1000 * made[0])
    event = describe_event(recipe_with())
    speed = measure.measure_speed(build_model(recipe_with(), event), event, 1)
    assert speed.flops_per_second == pytest.approx(100_000)


def test_the_optimizer_is_timed_and_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[float] = []
    own = torch.optim.SGD.step

    def step(self: Any, closure: Any = None) -> Any:
        before = [weight.clone() for group in self.param_groups for weight in group["params"]]
        found = own(self, closure)
        after = [weight for group in self.param_groups for weight in group["params"]]
        pairs = zip(after, before, strict=True)
        moved.append(max(float((a - b).detach().abs().max()) for a, b in pairs))
        assert any(weight.grad is not None for weight in after)
        return found

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    measure_rates(recipe_with(threads=1, optimizer={"name": "sgd", "momentum": 0.9}))
    assert len(moved) >= 4
    assert set(moved) == {0.0}


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
