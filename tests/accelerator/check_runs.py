"""A whole run on the device, from the recipe to its report, ends as it does on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rnode_dyn import FlowTraining, Recipe, RunResult, load_run, run
from tests.accelerator.lightning import on_the_stand_in
from tests.accelerator.tensor import NAME
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("accel")

STAGES = [
    {"objective": "flow-matching", "max_steps": 2},
    {"objective": "likelihood", "max_steps": 2},
]
# The time differs; and the noise, which a device draws by itself: on the CPU whatever else draws
# there, such as the reading of a batch, shifts it.
OF_THE_NOISE = ("bits_per_dim", "bits_per_dim_stderr", "bits_per_dim_bin_centre")


def recipe() -> Recipe:
    model = {"logit_alpha": 0.01, "scales": "auto", "field": {"kind": "conv", "hidden": [3]}}
    solver = {"algorithm": "rk4", "step": 1.0, "eval": {"algorithm": "rk4", "step": 0.5}}
    data = {**TINY["data"], "validation_size": 8, "test_size": 8}  # type: ignore[dict-item]
    stages = {"stage": STAGES, "clip": 1.0, "ema": 0.5, "precision": "64-true"}
    return Recipe.model_validate(
        {**TINY, "data": data, "model": model, "solver": solver, "train": stages}
    )


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = seen_devices(monkeypatch)
    expected = run(recipe(), tmp_path / "cpu")
    assert set(devices) == {"cpu"}
    devices.clear()
    with on_the_stand_in():
        found = run(recipe(), tmp_path / NAME)
    assert set(devices) == {NAME}
    assert [r.summary["versions"]["device"] for r in (expected, found)] == ["cpu", NAME]
    assert_alike(found, expected)


def assert_alike(found: RunResult, expected: RunResult) -> None:
    """Compare two runs, whose checkpoints are read on the CPU."""
    assert found.summary.keys() == expected.summary.keys()
    for name in ("protocol", "nfe_forward", "train_steps"):
        assert found.summary[name] == expected.summary[name]
    for name in OF_THE_NOISE:
        assert found.summary[name] == pytest.approx(expected.summary[name], rel=0.3)
    flows = [load_run(result.folder).flow.state_dict() for result in (found, expected)]
    torch.testing.assert_close(*flows, rtol=1e-7, atol=1e-9)


def seen_devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where training steps take place, from now on."""
    seen, step = [], FlowTraining.training_step

    def noted(module: FlowTraining, batch: torch.Tensor, batch_idx: int) -> Any:
        seen.append(batch.device.type)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(FlowTraining, "training_step", noted)
    return seen
