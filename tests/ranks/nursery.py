"""Two processes that train together, one of them killed at a random moment, again and again.

    python -m tests.ranks.nursery FOLDER KILLS SEED

Prints as JSON how often a process was killed, how many of the others ended by themselves, and in
what a run that went on came out different from one that was left alone. A process that waits for
another to begin is ended as torchrun does it: asked, and then killed.
"""

import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rnode_dyn import Recipe, run
from rnode_dyn.running.runner import resume
from tests.ranks.launch import environments, table
from tests.survive.nursery import child, wait
from tests.survive.scenarios import differences

RANKS = 2
_PATIENCE_S = 20.0
# Timed checkpoints too: each rank has a clock of its own, and both must save at the same step.
OFTEN = {"checkpoint_every_steps": 3, "checkpoint_every_minutes": 2e-4, "validate_every_steps": 5}


def start(work: Callable[[], Any], log: Path) -> list[int]:
    """Do work in processes that train together; return their numbers."""
    return [child(_as_rank(told, work), log) for told in environments(RANKS)]


def _as_rank(told: dict[str, str], work: Callable[[], Any]) -> Callable[[], Any]:
    def rank() -> None:
        os.environ.update(told)
        try:
            work()
        except SystemExit as end:  # how all but the first of them end
            if end.code:
                raise

    return rank


def killed(pids: list[int], chance: random.Random, seconds: float) -> tuple[bool, bool]:
    """Kill one of them; return whether it still ran, and whether the other ended by itself."""
    victim = chance.randrange(RANKS)
    time.sleep(chance.random() * seconds)
    os.kill(pids[victim], signal.SIGKILL)
    ran = wait(pids[victim]) == -signal.SIGKILL
    return ran, _ended(pids[1 - victim])


def _ended(pid: int) -> bool:
    """Wait for a process to end; end it where it does not."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.02)
    for ask in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, ask)
        time.sleep(1)
    wait(pid)
    return False


def main(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many processes, and let each of their runs go on to its end."""
    torch.set_num_threads(1)
    recipe = Recipe.model_validate(table(RANKS, train={"max_steps": 20, **OFTEN}))
    whole, log = folder / "whole", folder / "whole.log"
    begun = time.monotonic()
    ends = [wait(pid) for pid in start(lambda: run(recipe, whole), log)]
    seconds = time.monotonic() - begun
    assert ends == [0] * RANKS, log.read_text()
    chance, done, by_themselves, different = random.Random(seed), 0, 0, []
    for number in itertools.count(1):
        if done >= kills:
            break
        cut = folder / f"cut-{number}"
        ran, ended = killed(start(lambda f=cut: run(recipe, f), log), chance, seconds)
        done, by_themselves = done + ran, by_themselves + (ran and ended)
        again = resume if (cut / "recipe.toml").is_file() else lambda f: run(recipe, f)
        if not (cut / "summary.json").is_file():
            ends = [wait(pid) for pid in start(lambda f=cut, a=again: a(f), log)]
            assert ends == [0] * RANKS, log.read_text()
        different += [f"{cut.name} {what}" for what in differences(whole, cut)]
    return {"kills": done, "ended_by_themselves": by_themselves, "different": different}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
