"""A process that is killed ends the others, with a message; and what a command of two makes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w

from tests.ranks.launch import table

pytestmark = pytest.mark.slow
_WITHIN_S = 60
KILLS = int(os.environ.get("RNODE_DYN_KILLS", "6"))


def start(folder: Path, ranks: int, **train: object) -> subprocess.Popen[str]:
    """Start the command, which starts the other processes itself."""
    recipe = folder / "recipe.toml"
    recipe.write_text(tomli_w.dumps(table(ranks, train={"max_steps": 4, **train})))
    return subprocess.Popen(
        [sys.executable, "-m", "rnode_dyn", "run", recipe, "--json", "--output", folder / "run"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def others(process: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in listed.read_text().split()]


def wait_for(what: Path) -> None:
    until = time.monotonic() + 4 * _WITHIN_S
    while not what.exists():
        assert time.monotonic() < until, f"no {what}"
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc to look at")
@pytest.mark.parametrize("killed", ["first", "other"])
def test_a_killed_process_ends_all_with_a_message(killed: str, tmp_path: Path) -> None:
    command = start(tmp_path, 2, max_steps=10**6, epochs=10**6)
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt")
    (other,) = others(command)
    os.kill(command.pid if killed == "first" else other, signal.SIGKILL)
    _, said = command.communicate(timeout=_WITHIN_S)
    assert command.returncode not in (0, None)
    assert "has lost another one" in said or "Forcefully terminating" in said
    until = time.monotonic() + _WITHIN_S
    while Path(f"/proc/{other}").exists():
        assert time.monotonic() < until, "the other process lives on"
        time.sleep(0.1)


def test_killed_processes_come_out_as_if_they_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.ranks.nursery", str(tmp_path), str(KILLS), "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["kills"], told["different"]) == (KILLS, [])


def test_a_command_of_two_processes_makes_one_run(tmp_path: Path) -> None:
    answer, said = start(tmp_path, 2).communicate()
    assert json.loads(answer)["train_steps"] == 4, said
    assert said.count("tiny") == 1


def test_a_command_of_two_processes_that_diverges_fails(tmp_path: Path) -> None:
    command = start(tmp_path, 2, learning_rate=1e30)
    answer, said = command.communicate(timeout=4 * _WITHIN_S)
    assert (command.returncode, answer) == (1, "")
    assert said.count("error: step ") == 1
