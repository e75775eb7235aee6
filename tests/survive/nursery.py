"""Real processes to kill, born in milliseconds: each is a fork of one that has imported all.

    python -m tests.survive.nursery FOLDER KILLS SEED

kills trainings at random moments, at random writes and twice in a row, lets each go on, and prints
as JSON in how many it was killed and in what any of them came out different.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rnode_dyn import Recipe, run
from rnode_dyn.running.runner import resume
from tests.survive.scenarios import differences, draw_pictures, governed, labelled, stages, workers

_WRITES = ("replace", "link", "fsync", "write", "unlink")
_KILLS_A_RUN = 3


def child(work: Callable[[], Any], log: Path) -> int:
    """Do work in a process of its own; return its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int) -> int:
    """Return how a process has ended: its status, or less than 0 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dying_at(count: int, work: Callable[[], Any]) -> Callable[[], Any]:
    """Return work that kills its own process at the count-th call that changes the disk."""
    left = count

    def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    def die() -> Any:
        for name in _WRITES:
            setattr(os, name, deadly(getattr(os, name)))
        return work()

    return die


def calls_in(work: Callable[[], Any], log: Path) -> int:
    """Return how many calls that change the disk work makes."""
    counted = log.with_suffix(".count")

    def count() -> None:
        made = 0

        def counting(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal made
                made += 1
                return real(*args, **kwargs)

            return call

        for name in _WRITES:
            setattr(os, name, counting(getattr(os, name)))
        work()
        counted.write_text(str(made))

    assert wait(child(count, log)) == 0, log.read_text()
    return int(counted.read_text())


def killed_and_finished(
    recipe: Recipe, folder: Path, chance: random.Random, seconds: float, calls: int
) -> int:
    """Kill a run some times and let it finish; return how often it was killed."""
    kills, log = 0, folder.with_suffix(".log")
    for attempt in range(_KILLS_A_RUN + 1):
        begun = (folder / "recipe.toml").is_file()
        work = (lambda: resume(folder)) if begun else (lambda: run(recipe, folder))
        if attempt == _KILLS_A_RUN:
            status = wait(child(work, log))
            assert status == 0, log.read_text()
        elif chance.random() < 0.5:
            kills += wait(child(dying_at(chance.randrange(calls), work), log)) == -signal.SIGKILL
        else:
            pid = child(work, log)
            time.sleep(chance.random() * seconds)
            os.kill(pid, signal.SIGKILL)
            kills += wait(pid) == -signal.SIGKILL
        if (folder / "summary.json").is_file():
            break
    return kills


def main(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs of each kind in turns, a third as many times as is said."""
    torch.set_num_threads(1)
    draw_pictures(folder / "pictures")
    recipes = {
        "stages": stages(),
        "labelled": labelled(),
        "governed": governed(),
        "workers": workers(folder / "pictures"),
    }
    chance, done, different = random.Random(seed), dict.fromkeys(recipes, 0), []
    for name, recipe in recipes.items():
        whole = folder / name
        begun = time.monotonic()
        calls = calls_in(lambda r=recipe, f=whole: run(r, f), folder / f"{name}.log")
        seconds = time.monotonic() - begun
        number = 0
        while done[name] < kills / 3:
            number += 1
            killed = folder / f"{name}-{number}"
            done[name] += killed_and_finished(recipe, killed, chance, seconds, calls)
            different += [f"{killed.name} {what}" for what in differences(whole, killed)]
    return {"kills": done, "different": different}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
