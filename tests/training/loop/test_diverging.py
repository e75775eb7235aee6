"""Numbers that are not sound: what stops a training, what is skipped, and what is said of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    DivergedError,
    FlowTraining,
    NonFiniteStateError,
    ODEProblem,
    Recipe,
    Solution,
    Solver,
    SolverError,
    run,
)
from rnode_dyn.cli.guard import FAILED, exit_status
from rnode_dyn.flows import regularized
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.loop.watch import MOST_SKIPPED, Watch
from rnode_dyn.training.objectives.base import Loss
from rnode_dyn.training.objectives.likelihood import Likelihood
from tests.tiny import TINY, tiny, weights

Spoil = Callable[[Tensor], Tensor]


def spoil(monkeypatch: pytest.MonkeyPatch, steps: set[int], how: Spoil) -> None:
    """Spoil the loss of some steps, of whose number nothing in training knows."""
    whole, calls = Likelihood.loss, iter(range(10_000))

    def spoiled(self: Likelihood, *given: object) -> Loss:
        loss = whole(self, *given)  # type: ignore[arg-type]
        return Loss(how(loss.value), loss.figures) if next(calls) in steps else loss

    monkeypatch.setattr(Likelihood, "loss", spoiled)


def not_a_number(loss: Tensor) -> Tensor:
    return loss * math.nan


def sound_but_for_its_gradient(loss: Tensor) -> Tensor:
    """A value that is finite, with a gradient that is not: of √ at 0."""
    return loss + (loss - loss.detach()).abs().sqrt()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (not_a_number, r"the loss is not finite \(nan\)"),
        (lambda loss: loss + math.inf, r"the loss is not finite \(inf\)"),
        (sound_but_for_its_gradient, "the gradient is not finite"),
    ],
)
def test_what_is_not_finite_stops_before_the_step_is_taken(
    how: Spoil, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {5}, how)
    with pytest.raises(DivergedError, match=words) as caught:
        run(tiny(), tmp_path / "run")
    error = caught.value
    assert (error.step, error.batch, error.block) == (5, 1, 0)
    assert len(error.samples) == 64
    assert "step 5, epoch 1, batch 1: " in str(error)
    assert "block 0 (RK4, step 0.5; 8 evaluations, 2 accepted and 0 rejected steps)" in str(error)
    assert "last.ckpt" in "".join(error.__notes__)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())
    assert not RunFolder(tmp_path / "run").summary.exists()
    assert exit_status(error) == FAILED


def test_the_samples_named_are_those_that_were_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    step = FlowTraining.training_step

    def watched(module: FlowTraining, batch: Tensor, batch_idx: int) -> Tensor:
        seen.append(batch)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(FlowTraining, "training_step", watched)
    spoil(monkeypatch, {5}, not_a_number)
    with pytest.raises(DivergedError) as caught:
        run(tiny(), tmp_path / "run")
    from rnode_dyn.recipe.build import load_splits

    assert torch.equal(load_splits(tiny()).train.__getitems__(caught.value.samples), seen[-1])


def test_skipped_steps_change_nothing_and_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps of the second epoch are skipped: the weights are those of the first."""
    first = run(tiny(epochs=1), tmp_path / "first")
    spoil(monkeypatch, {4, 5, 6, 7}, not_a_number)
    result = run(tiny(on_nonfinite="skip"), tmp_path / "run")
    assert result.summary["skipped_steps"] == 4
    assert result.summary["train_steps"] == 8
    before, after = weights(first.folder), weights(result.folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_too_many_skips_in_a_row_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, {1, 2, *range(5, 30)}, sound_but_for_its_gradient)
    with pytest.raises(DivergedError, match="as in 10 steps in a row") as caught:
        run(tiny(on_nonfinite="skip", epochs=9), tmp_path / "run")
    assert caught.value.step == 5 + MOST_SKIPPED - 1


def break_solve(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the solve of that number in training break down."""
    whole, calls = regularized.solve, iter(range(10_000))

    def breaking(problem: ODEProblem, solver: Solver, **rest: Any) -> Solution:
        if (torch.is_grad_enabled() and next(calls) == number) or number < 0:
            raise NonFiniteStateError("no", t=0.5, dt=0.5, steps=1, nfe=4, worst_sample=3)
        return whole(problem, solver, **rest)

    monkeypatch.setattr(regularized, "solve", breaking)


def test_a_solve_that_breaks_down_is_not_finite_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_solve(monkeypatch, 2)
    result = run(tiny(on_nonfinite="skip", epochs=1), tmp_path / "skips")
    assert result.summary["skipped_steps"] == 1


def test_a_solve_that_breaks_down_is_told_with_its_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_solve(monkeypatch, -1)
    with pytest.raises(SolverError) as caught:
        run(tiny(), tmp_path / "run")
    notes = "".join(caught.value.__notes__)
    assert "step 0, epoch 0, batch 0: samples" in notes
    assert "block 0 (RK4, step 0.5" in notes
    assert "its solve broke down" in notes


@pytest.mark.parametrize("validation_size", [50, 0])
def test_a_flow_that_becomes_far_worse_than_noise_ends_as_failed(
    validation_size: int, tmp_path: Path
) -> None:
    table = {
        **TINY,
        "data": {**TINY["data"], "validation_size": validation_size},  # type: ignore[dict-item]
        "train": {"epochs": 8, "learning_rate": 3.0},
    }
    with pytest.raises(DivergedError, match=r"are more than|not finite|has diverged"):
        run(Recipe.model_validate(table), tmp_path / "run")
    assert not RunFolder(tmp_path / "run").summary.exists()


def test_a_last_step_that_diverges_is_seen_without_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "most_bits_after", lambda watch, steps: 1.0)
    table = {**TINY, "data": {**TINY["data"], "validation_size": 0}}  # type: ignore[dict-item]
    with pytest.raises(DivergedError, match="bits/dim on the test split"):
        run(Recipe.model_validate(table), tmp_path / "run")


def test_bits_may_be_anything_while_the_rate_warms_up() -> None:
    watch = Watch(levels=17, warmup_steps=3)
    assert [watch.fault(1.0, 1.0, bits, step) for step, bits in enumerate([5.0, 99.0, 99.0])] == [
        None,
        None,
        None,
    ]
    fault = watch.fault(1.0, 1.0, 99.0, 3)
    assert fault == "99 bits/dim are more than 12.26, 3 times those of uniform noise"


def test_an_untrained_flow_worse_than_noise_may_become_better() -> None:
    watch = Watch(levels=256)
    assert watch.fault(88.0, 1.0, 88.0, 0) is None
    assert watch.fault(90.0, 1.0, 90.0, 1) is None
    assert watch.fault(177.0, 1.0, 177.0, 2) is not None


def test_without_validation_the_last_weights_are_the_best(tmp_path: Path) -> None:
    table = {**TINY, "data": {**TINY["data"], "validation_size": 0}}  # type: ignore[dict-item]
    result = run(Recipe.model_validate(table), tmp_path / "run")
    folder = RunFolder(result.folder)
    best, last = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (folder.best_checkpoint, folder.last_checkpoint)
    )
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert json.loads(folder.summary.read_text())["train_steps"] == 8


def test_parts_one_after_another_are_the_larger_batch(tmp_path: Path) -> None:
    whole = run(tiny(epochs=None, max_steps=50, learning_rate=1e-3), tmp_path / "whole")
    table = {
        **TINY,
        "data": {**TINY["data"], "batch_size": 16},  # type: ignore[dict-item]
        "train": {"max_steps": 50, "learning_rate": 1e-3, "accumulate": 4},
    }
    parts = run(Recipe.model_validate(table), tmp_path / "parts")
    one, other = weights(whole.folder), weights(parts.folder)
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-6
    assert parts.summary["train_steps"] == 50


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "fsdp", "deepspeed_stage_2"])
def test_strategies_that_make_no_run_are_refused_with_a_sentence(strategy: str) -> None:
    with pytest.raises(ValueError, match='write "ddp"'):
        tiny(strategy=strategy)


def test_a_step_is_looked_at_with_one_reading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    readings: list[int] = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda x: (readings.append(x.numel()), tolist(x))[1])
    within: list[int] = []
    look = FlowTraining.on_before_optimizer_step

    def counted(module: FlowTraining, optimizer: torch.optim.Optimizer) -> None:
        readings.clear()
        look(module, optimizer)
        within.append(len(readings))

    monkeypatch.setattr(FlowTraining, "on_before_optimizer_step", counted)
    run(tiny(epochs=1), tmp_path / "run")
    assert within == [1] * 4
