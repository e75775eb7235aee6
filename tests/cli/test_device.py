"""`--device`: where evaluate, sample and score compute, and devices that are not there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rnode_dyn import RunResult
from tests.cli.calling import call, words_of


def command(name: str, finished: RunResult, tmp_path: Path) -> list[object]:
    samples = tmp_path / "samples.npy"
    np.save(samples, np.zeros((3, 1, 8, 8), dtype=np.uint8))
    return {
        "evaluate": ["evaluate", finished.folder, "--limit", 3],
        "sample": ["sample", finished.folder, "-n", 1, "--output", tmp_path / "drawn.png"],
        "score": ["score", finished.folder, samples, "--output", tmp_path / "scores.npy"],
    }[name]


every_command = pytest.mark.parametrize("name", ["evaluate", "sample", "score"])


@every_command
@pytest.mark.parametrize("device", ["gpu", "cuda:x", ""])
def test_names_that_are_no_devices(
    name: str, device: str, finished: RunResult, tmp_path: Path
) -> None:
    result = call(*command(name, finished, tmp_path), "--device", device)
    assert result.exit_code == 2
    assert "write cpu, cuda, cuda:1 or mps" in words_of(result.stderr)


@every_command
@pytest.mark.parametrize("device", ["cuda:99", "meta"])
def test_devices_that_nothing_can_be_computed_on(
    name: str, device: str, finished: RunResult, tmp_path: Path
) -> None:
    result = call(*command(name, finished, tmp_path), "--device", device)
    assert result.exit_code == 2
    assert f"--device is {device}, and torch cannot compute there" in words_of(result.stderr)
    assert "write cpu, or leave it out" in words_of(result.stderr)


@every_command
def test_the_cpu_is_always_there(name: str, finished: RunResult, tmp_path: Path) -> None:
    assert call(*command(name, finished, tmp_path), "--device", "cpu").exit_code == 0


def test_evaluate_says_where_it_was(finished: RunResult) -> None:
    printed = json.loads(call("evaluate", finished.folder, "--limit", 3, "--json").stdout)
    assert printed["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
