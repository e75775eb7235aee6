"""Runs that are killed, signalled or denied the disk come out as if nothing had been."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("RNODE_DYN_KILLS", "12"))


def module(name: str, *words: object) -> Any:
    """Run a module of these tests in a process that nothing has threads in."""
    command = [sys.executable, "-m", f"tests.survive.{name}", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_runs_come_out_as_if_they_had_not_been(tmp_path: Path) -> None:
    told = module("nursery", tmp_path, KILLS, 0)
    assert told["different"] == []
    assert min(told["kills"].values()) >= KILLS // 3


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return module("signals", tmp_path_factory.mktemp("signals"))


@pytest.mark.parametrize(
    ("way", "status"),
    [
        ("term", 143),
        ("int", 130),
        ("usr1", 143),
        ("validating", 143),
        ("ended", 143),
        ("workers", 143),
    ],
)
def test_a_signal_saves_and_says_how_to_go_on(ended: dict[str, Any], way: str, status: int) -> None:
    told = ended[way]
    assert told["status"] == status, told["said"]
    assert "rnode-dyn run --resume" in told["said"]
    assert "Traceback" not in told["said"]
    assert told["left"] == []
    assert told["different"] == []


def test_a_second_signal_ends_at_once_without_damage(ended: dict[str, Any]) -> None:
    assert ended["twice"]["status"] == 143
    assert ended["twice"]["different"] == []


def test_a_full_disk_ends_the_run_and_says_so(ended: dict[str, Any]) -> None:
    told = ended["full"]
    assert told["status"] == 1, told["said"]
    assert "last.ckpt cannot be written (File too large)" in told["said"]
    assert "Traceback" not in told["said"]
    assert told["left"] == []
    assert told["different"] == []
