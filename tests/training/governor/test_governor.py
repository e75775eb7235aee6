"""The governor of steps: in whole runs, and against a flow that learns its solver's error."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.distributions import Normal
from torch.utils.data import DataLoader

from rnode_dyn import (
    RK4,
    DiscreteAdjoint,
    Euler,
    ExactDivergence,
    FixedStep,
    MLPField,
    MultiscaleFlow,
    Recipe,
    RegularizedFlow,
    RunResult,
    Scale,
    Solver,
    run,
)
from rnode_dyn.data import Event
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.refinement import Refinement, set_step_count, step_count
from rnode_dyn.recipe.build import build_model, load_splits
from rnode_dyn.running import runner
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.governor.build import build_governor
from rnode_dyn.training.governor.governor import GovernorSettings, StepGovernor
from rnode_dyn.training.loop.averaging import MovingAverage
from rnode_dyn.training.loop.module import FlowTraining, OptimizerSettings
from tests.tiny import TINY, run_until, same_weights

AUTO = {"algorithm": "rk4", "step": "auto", "sensitivity": "discrete"}


def governed(governor: dict[str, Any] | None = None, **train: Any) -> Recipe:
    """The small recipe with two blocks, governed."""
    table = {**TINY["train"], "governor": governor or {"every": 2, "points": 16}, **train}  # type: ignore[dict-item]
    model = {**TINY["model"], "blocks": 2}  # type: ignore[dict-item]
    return Recipe.model_validate({**TINY, "model": model, "solver": AUTO, "train": table})


def logged(folder: Path, name: str) -> list[tuple[int, float]]:
    """The steps and values of a figure."""
    with RunFolder(folder).metrics.open() as file:
        rows = list(csv.DictReader(file))
    return [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]


def make_stiff(field: nn.Module, scale: float) -> None:
    """Let a field vary so much in space that few steps do not solve it."""
    generator = torch.Generator().manual_seed(1)
    for parameter in field.parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.data = scale * drawn / math.sqrt(parameter.shape[-1])


def begin_stiff(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Let runs begin with a first block that is stiff and a second that is at rest."""

    def build(recipe: Recipe, event: Event | None = None) -> MultiscaleFlow:
        model = build_model(recipe, event)
        make_stiff(model.blocks[0].field, scale)
        return model

    monkeypatch.setattr(runner, "build_model", build)


@pytest.fixture(scope="module")
def auto(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    with pytest.MonkeyPatch.context() as patch:
        begin_stiff(patch, 1.5)
        return run(governed(), tmp_path_factory.mktemp("runs") / "auto")


def test_steps_gap_and_returns_are_logged(auto: RunResult) -> None:
    # At the beginning, and after every second of 8 updates.
    places = [0, 1, 3, 5, 7]
    for name in ("steps/block_0", "steps/block_1", "governor/gap", "governor/returns"):
        found = logged(auto.folder, name)
        assert [step for step, _ in found] == places
        assert all(math.isfinite(value) for _, value in found)


def test_only_the_stiff_block_gets_more_steps(auto: RunResult) -> None:
    stiff, idle = (dict(logged(auto.folder, f"steps/block_{k}")) for k in (0, 1))
    assert stiff[0] > 2 >= idle[0] >= 1
    assert max(idle.values()) < min(stiff.values())


def test_the_summary_says_how_the_flow_was_solved(
    auto: RunResult, finished: RunResult, tmp_path: Path
) -> None:
    names = ("governor_steps", "governor_gap", "governor_returns")
    steps, gap, returns = (auto.summary[name] for name in names)
    assert len(steps) == 2
    assert 0 < gap <= GovernorSettings().tolerance
    assert returns == 0
    assert [finished.summary[name] for name in names] == [None, None, None]


def test_the_run_begins_solved(auto: RunResult) -> None:
    assert logged(auto.folder, "governor/gap")[0][1] <= GovernorSettings().tolerance


def test_more_steps_than_the_most_are_never_given_and_that_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_stiff(monkeypatch, 4.0)
    most = {"every": 2, "points": 16, "max_steps": 3}
    stream = io.StringIO()
    console = Console(file=stream, width=80)
    result = run(governed(most, epochs=None, max_steps=4), tmp_path / "run", console=console)
    assert stream.getvalue().count("the flow is not solved: 3 ") == 1
    assert "train.governor.max_steps is 3" in stream.getvalue()
    assert {value for _, value in logged(result.folder, "steps/block_0")} == {3.0}
    assert result.summary["governor_gap"] > GovernorSettings().tolerance


@pytest.mark.one_in(3)
@pytest.mark.parametrize("scale", [0.0, 1.5, 4.0])
def test_resuming_repeats_bit_for_bit(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the steps never solve the flow, so that no weights were ever found sound."""
    begin_stiff(monkeypatch, scale)
    table = {"every": 2, "points": 16, "max_steps": 4}
    recipe = governed(table, epochs=None, max_steps=8, validate_every_steps=3)
    whole = run(recipe, tmp_path / "whole")

    run_until(5, recipe, tmp_path / "part", monkeypatch)
    resumed = resume(tmp_path / "part")
    assert same_weights(whole.folder, resumed.folder)
    for name in ("steps/block_0", "steps/block_1", "governor/gap"):
        assert logged(resumed.folder, name) == logged(whole.folder, name)


def test_resuming_between_the_parts_of_steps_looks_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"every": 2, "points": 16, "max_steps": 4}
    recipe = governed(table, epochs=None, max_steps=6, accumulate=2, checkpoint_every_steps=1)
    whole = run(recipe, tmp_path / "whole")
    run_until(4, recipe, tmp_path / "part", monkeypatch)
    resumed = resume(tmp_path / "part")
    assert logged(resumed.folder, "governor/gap") == logged(whole.folder, "governor/gap")


def test_steps_that_an_earlier_stage_found_hold_after_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_stiff(monkeypatch, 4.0)
    matching = {"objective": "flow-matching", "max_steps": 2}
    stages = [{"max_steps": 2}, matching, {"max_steps": 2}]
    table = {"every": 2, "points": 16, "max_steps": 8}
    for name, stage in (("ended", stages[:2]), ("went on", stages)):
        recipe = governed(table, epochs=None, stage=stage, micro_batch="auto")
        whole = run(recipe, tmp_path / name / "whole")
        run_until(3, recipe, tmp_path / name / "part", monkeypatch)
        resumed = resume(tmp_path / name / "part")
        assert same_weights(whole.folder, resumed.folder)
        for figure in ("governor_steps", "governor_gap", "governor_returns", "micro_batch"):
            assert resumed.summary[figure] == whole.summary[figure]


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_other_precisions_are_governed_too(precision: str, tmp_path: Path) -> None:
    result = run(governed(precision=precision, epochs=None, max_steps=3), tmp_path / "run")
    assert [step for step, _ in logged(result.folder, "governor/gap")] == [0, 1]


def test_only_stages_of_the_likelihood_are_governed(tmp_path: Path) -> None:
    warm = {"objective": "flow-matching", "max_steps": 4}
    recipe = governed(epochs=None, stage=[warm, {"max_steps": 2}])
    result = run(recipe, tmp_path / "run")
    assert [step for step, _ in logged(result.folder, "steps/block_0")] == [4, 5]


def test_scales_with_steps_of_their_own_are_left_alone(tmp_path: Path) -> None:
    scales = [{"blocks": 1, "solver": {"step": 0.2}}, {"blocks": 2}]
    table = {**TINY, "solver": AUTO, "model": {**TINY["model"], "scale": scales}}  # type: ignore[dict-item]
    recipe = Recipe.model_validate(table)
    splits = load_splits(recipe)
    model = build_model(recipe, splits.event)
    governor = build_governor(recipe, model, splits)
    assert governor is not None
    assert governor.blocks == model.blocks[1:]
    assert [step_count(flow) for flow in model.blocks] == [5, 2, 2]
    assert len(governor.batch) == min(64, len(splits.validation))

    result = run(recipe, tmp_path / "run")
    counted = [k for k in range(3) if logged(result.folder, f"steps/block_{k}")]
    assert counted == [1, 2]
    assert build_governor(Recipe.model_validate(TINY), model, splits) is None


# The trap. On x ~ N(0, σ²) the field c·x has log det c a dimension however it is solved, and the
# best c is −log σ. One Euler step takes x to (1 + c) x, which c = 1/σ² − 1 makes best: a likelihood
# beyond all bounds. More steps tell the truth: exp(c) x.
SIGMA = 0.1
BEST = -math.log(SIGMA)
TRUTH = BEST - 0.5 - 0.5 * math.log(2 * math.pi)
"""Mean log-density of the data, in nats a dimension."""


def linear_model(steps: int) -> MultiscaleFlow:
    field = MLPField(2, hidden=())
    field.layers[0].weight.data = BEST * torch.eye(2)  # type: ignore[union-attr]
    solver = Solver(Euler(), FixedStep(1.0), DiscreteAdjoint())
    flow = RegularizedFlow(field, solver, ExactDivergence())
    set_step_count(flow, steps)
    return MultiscaleFlow((2,), [Scale([flow])])


@torch.no_grad()
def nats_at(model: MultiscaleFlow, steps: int, x: Tensor) -> float:
    """Mean log-density, in nats a dimension, as so many steps have it."""
    (flow,) = model.blocks
    before = step_count(flow)
    set_step_count(flow, steps)
    result = model(x)
    set_step_count(flow, before)
    return (standard_normal_log_prob(result.z) + result.log_det).mean().item() / 2


def data(count: int) -> Tensor:
    return SIGMA * torch.randn(count, 2)


class Tempt(pl.Callback):
    """Takes the steps away once, behind the governor's back."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        set_step_count(pl_module.model.blocks[0], 1)  # type: ignore[union-attr, index]


def fit(
    model: MultiscaleFlow, updates: int, callbacks: list[pl.Callback], rate: float = 0.3
) -> FlowTraining:
    settings = OptimizerSettings(learning_rate=rate, schedule="cosine")
    module = FlowTraining(model, Event((2,)), optimizer=settings)
    trainer = pl.Trainer(
        max_steps=updates,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=callbacks,
    )
    batches = DataLoader(data(128 * updates), batch_size=128)  # type: ignore[arg-type]
    trainer.fit(module, batches)
    return module


def test_a_single_step_is_a_trap() -> None:
    model = linear_model(steps=1)
    fit(model, 40, [])
    x = data(500)
    assert nats_at(model, 1, x) > TRUTH + 1
    assert nats_at(model, 256, x) < TRUTH - 1


class Spy(pl.Callback):
    """Looks at the weights, the optimizer and its rate whenever the governor went back."""

    def __init__(self, governor: StepGovernor) -> None:
        self.governor, self.seen = governor, 0
        self.rates: list[float] = []

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        optimizer = trainer.optimizers[0]
        self.rates.append(optimizer.param_groups[0]["lr"])
        if self.governor.returns == self.seen:
            return
        self.seen += 1
        assert self.governor.returns == self.seen
        sound = self.governor.state_dict()["sound"]
        weights = sound["weights"]
        # An averaging callback writes the mean where the weights are otherwise.
        kept = weights.get("current_model_state", weights["state_dict"])
        torch.testing.assert_close(dict(pl_module.state_dict()), dict(kept))
        now, then = optimizer.state_dict()["state"], sound["optimizer"]["state"]
        assert now.keys() == then.keys()
        for key, state in now.items():
            torch.testing.assert_close(state, then[key])


@pytest.mark.one_in(2)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_flow_that_learned_the_solvers_error_goes_back(ema: float | None) -> None:
    model = linear_model(steps=64)
    told: list[str] = []
    settings = GovernorSettings(0.1, every=5, max_steps=64)
    governor = StepGovernor(model.blocks, data(64), settings, told.append)
    spy = Spy(governor)
    averaging = [] if ema is None else [MovingAverage(ema)]
    module = fit(model, 80, [*averaging, governor, Tempt(), spy])
    assert governor.returns >= 1
    assert spy.seen == governor.returns
    assert sum("goes back to the weights of step 0" in text for text in told) >= 1
    # The schedule went on through the returns.
    factor = module.optimizer_settings.factor
    expected = [0.3 * factor(step, 80) for step in range(1, 81)]
    assert spy.rates == pytest.approx(expected, abs=1e-9)
    x = data(500)
    properly = nats_at(model, 1024, x)
    assert nats_at(model, governor.steps[0], x) - properly < 0.15
    assert properly > TRUTH - 0.2


class Growth(nn.Module):
    """dx/dt = c x."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.rate * x


@pytest.mark.parametrize("sigma", [0.1, 0.01, 0.001])
def test_errors_of_the_first_block_count_as_the_last_makes_them(sigma: float) -> None:
    """Narrow data: what the first block leaves is far from noise, and the second stretches it."""
    solver = Solver(RK4(), FixedStep(0.5), DiscreteAdjoint())
    flows = [
        RegularizedFlow(Growth(-math.log(sigma) / 2), solver, ExactDivergence()) for _ in range(2)
    ]
    model = MultiscaleFlow((2,), [Scale(flows)])
    settings = GovernorSettings(tolerance=0.003, every=5, max_steps=64)
    x = sigma * torch.randn(64, 2)
    fit(model, 1, [StepGovernor(flows, x, settings)], rate=1e-12)
    with torch.no_grad():
        found = model(x)
    log_prob = standard_normal_log_prob(found.z) + found.log_det
    exact = Normal(0, sigma).log_prob(x).sum(1)
    # What the limit of ever more steps would change is 16/15 of what twice the steps do.
    off = (log_prob - exact).abs().mean().item() / (2 * math.log(2))
    assert off < 1.1 * settings.tolerance


class Untimely(StepGovernor):
    """Takes a step away at its first look, whatever the gap."""

    def _adjust(self, refinement: Refinement, module: FlowTraining) -> None:
        if module.trainer.global_step == self.settings.every and not self.tried:
            self.tried = True
            set_step_count(self.blocks[0], self.steps[0] - 58)
        else:
            super()._adjust(refinement, module)

    tried = False


def test_steps_that_were_needed_come_back_before_the_next_update() -> None:
    model = linear_model(steps=64)
    settings = GovernorSettings(0.1, every=5, max_steps=64)
    governor = Untimely(model.blocks, data(64), settings)
    fit(model, 6, [governor], rate=1e-9)
    assert governor.tried
    assert governor.gap is not None
    assert governor.gap <= settings.tolerance
    # No removal is tried while it rests, though the gap would allow for one.
    kept = governor.steps
    assert governor.state_dict()["rest"] > 0
    assert kept[0] > 6


def test_a_flow_that_stays_solved_never_goes_back() -> None:
    model = linear_model(steps=64)
    governor = StepGovernor(model.blocks, data(64), GovernorSettings(0.1, every=5, max_steps=64))
    fit(model, 20, [governor])
    assert governor.returns == 0


def test_held_out_solves_that_break_down_do_not_end_the_training() -> None:
    """The training's batches are solved, and the held-out one holds a point too far out."""
    model = linear_model(steps=4)
    batch = data(8)
    batch[0] = math.inf
    governor = StepGovernor(model.blocks, batch, GovernorSettings(0.1, every=2, max_steps=8))
    fit(model, 4, [governor])
    assert governor.steps == [8]
    assert governor.returns == 0


@pytest.mark.parametrize("key", ["tolerance", "every", "points", "max_steps"])
def test_settings_are_the_recipes(key: str) -> None:
    chosen: dict[str, Any] = {"tolerance": 0.25, "every": 7, "points": 9, "max_steps": 5}
    recipe = governed({key: chosen[key]})
    splits = load_splits(recipe)
    governor = build_governor(recipe, build_model(recipe, splits.event), splits)
    assert governor is not None
    found = {**vars(governor.settings), "points": len(governor.batch)}
    defaults = {"tolerance": 0.003, "every": 50, "points": 50, "max_steps": 64}
    assert found == {**defaults, key: chosen[key]}
