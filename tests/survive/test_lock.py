"""A run folder has one owner, whom others are told of; the lock of a dead one is taken over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rnode_dyn import RunError
from rnode_dyn.recipe.load import recipe_to_toml
from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.lock import owned
from tests.tiny import tiny

OWN = """
import os, sys, time
from pathlib import Path
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.lock import owned
with owned(RunFolder(Path(sys.argv[1]))):
    if os.fork() == 0:
        time.sleep(60)  # a worker that outlives its parent
    print("owned", flush=True)
    time.sleep(60)
"""


def test_the_owner_is_named_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    command = [sys.executable, "-c", OWN, str(tmp_path)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"owned\n"
        says = rf"being trained in by process {owner.pid} on .* since \d{{4}}-\d\d-\d\d .* UTC"
        with pytest.raises(RunError, match=says), owned(folder):
            pass
        owner.kill()
        owner.wait()
        with owned(folder):
            assert json.loads(folder.lock.read_text())["pid"] == os.getpid()
    finally:
        os.killpg(owner.pid, signal.SIGKILL)
    assert not folder.lock.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\0"])
def test_a_lock_that_nobody_holds_may_say_anything(text: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(text)
    with owned(RunFolder(tmp_path)):
        pass


@pytest.mark.slow
def test_the_command_is_told_of_the_owner_killed_and_gone_on_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    recipe = tmp_path / "long.toml"
    recipe.write_text(recipe_to_toml(tiny(epochs=100_000, checkpoint_every_steps=1)))
    command = [sys.executable, "-m", "rnode_dyn", "run"]
    resumed = [*command, "--resume", str(folder.path)]
    begin = [*command, str(recipe), "--output", str(folder.path)]
    first = subprocess.Popen(begin, stderr=subprocess.PIPE, text=True)
    while first.poll() is None and not folder.previous_checkpoint.exists():
        time.sleep(0.1)
    second = subprocess.run(resumed, capture_output=True, text=True)
    assert second.returncode == 2
    assert f"process {first.pid} on" in second.stderr
    first.send_signal(signal.SIGTERM)
    assert f"rnode-dyn run --resume {folder.path}" in first.communicate()[1]
    assert first.returncode == 143
    end = read_checkpoint(folder.last_checkpoint)["global_step"] + 2
    last = subprocess.run([*resumed, "--json", "--set", f"train.max_steps={end}"], stdout=-1)
    assert json.loads(last.stdout)["train_steps"] == end
