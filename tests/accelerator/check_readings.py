"""The host reads no more of the device's values than the table in ``budgets.py`` allows."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    Dopri5,
    FixedStep,
    FlowDistribution,
    Heun,
    MultiscaleFlow,
    ODEProblem,
    Recipe,
    RegularizedFlow,
    Sensitivity,
    Solver,
    SolveStats,
    deferred_checks,
    solve,
)
from rnode_dyn.data.splits import Event
from rnode_dyn.report.grids import draw_samples
from rnode_dyn.runs.figures import read_together
from rnode_dyn.training.loop import display
from tests.accelerator import budgets
from tests.accelerator.budgets import Budget
from tests.accelerator.lightning import counted_training
from tests.accelerator.models import image_model
from tests.accelerator.readings import Readings, host_readings
from tests.flows.cases import REGULARIZERS, SENSITIVITIES, SmallField, name_of
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

IMAGES = Event((1, 8, 8), levels=17)
LOGGED = 9  # of the steps, counted from 0, every tenth is written down


def within(budget: Budget, readings: Readings) -> None:
    assert readings.count <= budget.now, f"{budget} is overdrawn: {readings}"


def field() -> SmallField:
    return SmallField().to("accel")


def points() -> Tensor:
    return torch.rand(3, 4, device="accel", requires_grad=True)


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_a_solve_by_fixed_steps(sensitivity: Sensitivity, steps: int) -> None:
    problem = ODEProblem(field(), points(), (0.0, 1.0))
    with deferred_checks():
        forward, backward = readings_of(problem, Solver(RK4(), FixedStep(1 / steps), sensitivity))
    within(budgets.FIXED_SOLVE[name_of(sensitivity)], forward)
    within(budgets.FIXED_BACKWARD[name_of(sensitivity)], backward)


def readings_of(problem: ODEProblem, solver: Solver) -> tuple[Readings, Readings]:
    with host_readings() as forward:
        solution = solve(problem, solver)
    with host_readings() as backward:
        solution.x.square().sum().backward()
    return forward, backward


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_a_solve_that_nobody_waits_for(sensitivity: Sensitivity) -> None:
    problem = ODEProblem(field(), points(), (0.0, 1.0))
    for readings in readings_of(problem, Solver(RK4(), FixedStep(0.5), sensitivity)):
        within(budgets.ALONE, readings)


def test_the_checks_of_many_solves_are_one_reading() -> None:
    problem, solver = ODEProblem(field(), points(), (0.0, 1.0)), Solver(RK4(), FixedStep(0.5))
    with host_readings() as readings, deferred_checks():
        for _ in range(3):
            solve(problem, solver).x.square().sum().backward()
    assert readings.count == 1, str(readings)


def readings_of_a_step(stats: list[SolveStats], readings: list[Readings]) -> float:
    """How many readings one more step takes, given two solves of different length."""
    few, many = (s.accepted + s.rejected for s in stats)
    assert many > few
    return (readings[1].count - readings[0].count) / (many - few)


def test_an_adaptive_step() -> None:
    counted, stats = [], []
    for tolerance in (1e-3, 1e-9):
        solver = Solver(Dopri5(), AdaptiveStep(tolerance, tolerance))
        with deferred_checks(), host_readings() as readings:
            stats.append(solve(ODEProblem(field(), points(), (0.0, 2.0)), solver).stats)
        counted.append(readings)
    each = readings_of_a_step(stats, counted)
    assert each <= budgets.ADAPTIVE_STEP.now
    of_the_steps = each * (stats[0].accepted + stats[0].rejected)
    assert counted[0].count - of_the_steps <= budgets.ADAPTIVE_START.now, str(counted[0])


def test_an_adaptive_step_of_a_flow() -> None:
    counted, stats = [], []
    for tolerance in (1e-2, 1e-5):
        solver = Solver(Dopri5(), AdaptiveStep(tolerance, tolerance))
        flow = RegularizedFlow(field(), solver, regularizers=REGULARIZERS[:2])
        with host_readings() as readings, torch.no_grad():
            flow(points())
        counted.append(readings)
        stats.append(flow.stats)
    each = readings_of_a_step(stats, counted)
    assert each <= budgets.ADAPTIVE_STEP_OF_A_FLOW.now, str(counted[1])


def batches(count: int) -> list[Tensor]:
    return [torch.randint(0, 17, (3, 1, 8, 8), dtype=torch.uint8) for _ in range(count)]


def recipe(**stage: object) -> Recipe:
    return Recipe.model_validate(
        {**TINY, "train": {"clip": 1.0, "precision": "64-true", "stage": [{"epochs": 1, **stage}]}}
    )


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_a_training_step_of_six_blocks(sensitivity: Sensitivity, tmp_path: Path) -> None:
    model = image_model(solver=Solver(Heun(), FixedStep(1.0), sensitivity))
    # What is found out once, such as whether a field is what it says, is no part of a step.
    _, *steps = counted_training(model, batches(3), IMAGES, recipe(), tmp_path)
    for step in steps:
        within(budgets.TRAINING_STEP[name_of(sensitivity)], step)


def test_a_training_step_whose_figures_are_written_down(tmp_path: Path) -> None:
    steps = counted_training(image_model(), batches(LOGGED + 1), IMAGES, recipe(), tmp_path)
    step = budgets.TRAINING_STEP[budgets.CHECKPOINTED].now + budgets.WRITTEN_STEP.now
    within(Budget(step, step), steps[LOGGED])


def test_a_training_step_of_six_blocks_by_adaptive_steps(tmp_path: Path) -> None:
    stepping = AdaptiveStep(0.1, 0.1, first_step=1 / 6)
    model = image_model(solver=Solver(Dopri5(), stepping, CheckpointedAdjoint()))
    *_, step = counted_training(model, batches(2), IMAGES, recipe(), tmp_path)
    tried = sum(block.stats.accepted + block.stats.rejected for block in model.blocks)
    beside, each = budgets.TRAINING_STEP_BESIDE_ADAPTIVE_STEPS.now, budgets.ADAPTIVE_STEP_OF_A_FLOW
    allowed = beside + tried * each.now
    assert tried >= len(model.blocks)
    within(Budget(allowed, allowed), step)


@pytest.mark.parametrize("coupling", budgets.MATCHING)
def test_a_training_step_of_matching(coupling: str, tmp_path: Path) -> None:
    matching = recipe(objective="flow-matching", coupling=coupling)
    steps = counted_training(image_model(), batches(LOGGED + 1), IMAGES, matching, tmp_path)
    budget = budgets.MATCHING[coupling]
    for step in steps[:LOGGED]:
        within(budget, step)
    written = budget.now + budgets.WRITTEN_STEP.now
    within(Budget(written, written), steps[LOGGED])


@pytest.mark.parametrize("seconds", [0.0, float("inf")])
def test_a_terminal_shows_figures_that_have_been_read(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_SECONDS_BETWEEN_FIGURES", seconds)
    console, matching = Console(file=StringIO(), force_terminal=True), "flow-matching"
    given = (image_model(), batches(3), IMAGES, recipe(objective=matching), tmp_path, console)
    _, *steps = counted_training(*given)
    each = budgets.MATCHING["independent"].now
    assert [step.count for step in steps] == [each, each]


def test_figures_are_read_together() -> None:
    figures = {"a": torch.rand((), device="accel"), "b": torch.tensor(0.1), "c": 2.0}
    figures["d"] = torch.rand((), device="accel", dtype=torch.float32)
    with host_readings() as readings:
        read = read_together(figures)
    within(budgets.FIGURES, readings)
    assert list(read.items()) == [(name, float(figure)) for name, figure in figures.items()]


@pytest.mark.parametrize(
    "draw",
    [
        lambda model: FlowDistribution(model, IMAGES.shape).sample((3,)),
        lambda model: draw_samples(model, IMAGES, 3, 0.7, seed=4),
    ],
    ids=["on the device", "brought home"],
)
def test_drawing_samples(draw: Callable[[MultiscaleFlow], Tensor]) -> None:
    model = image_model(solver=Solver(Heun(), FixedStep(1.0))).to("accel")
    with host_readings() as readings:
        draw(model)
    within(budgets.SAMPLING, readings)


def test_a_bound_that_is_overdrawn_says_where() -> None:
    with host_readings() as readings:
        solve(ODEProblem(field(), points(), (0.0, 1.0)), Solver(RK4(), FixedStep(0.5)))
        points().sum().item()
    with pytest.raises(AssertionError, match=r"overdrawn: \d+ readings"):
        within(Budget(0, 0), readings)
