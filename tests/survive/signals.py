"""The command, ended by signals: real processes, forked from one that has imported all.

    python -m tests.survive.signals FOLDER

prints as JSON how each ended, what it said, and in what it came out different once gone on with.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rnode_dyn import run
from rnode_dyn.cli import main as command
from rnode_dyn.recipe.load import recipe_to_toml
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.loop.module import FlowTraining
from tests.survive.nursery import child, wait
from tests.survive.scenarios import differences, draw_pictures, stages, workers


def called(*words: object) -> Callable[[], Any]:
    """Return work that is the command, called so; the process ends as the command does."""

    def work() -> None:
        sys.argv = ["rnode-dyn", *map(str, words)]
        try:
            command()
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(int(end.code or 0))

    return work


def with_signals(hook: str, step: int, *numbers: int) -> Callable[[Callable[[], Any]], Any]:
    """Return what lets work be sent signals in a hook of its training, after so many steps."""

    def around(work: Callable[[], Any]) -> Callable[[], Any]:
        def signalled() -> None:
            real = getattr(FlowTraining, hook)

            def send(module: FlowTraining, *args: Any) -> Any:
                if module.steps == step:
                    for number in numbers:
                        os.kill(os.getpid(), number)
                return real(module, *args)

            setattr(FlowTraining, hook, send)
            work()

        return signalled

    return around


def short_of_disk(size: int) -> Callable[[Callable[[], Any]], Any]:
    """Return what lets work write no file of more than so many bytes."""

    def around(work: Callable[[], Any]) -> Callable[[], Any]:
        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            work()

        return limited

    return around


def main(folder: Path) -> dict[str, Any]:
    """End runs in each way, and go on with them."""
    torch.set_num_threads(1)
    draw_pictures(folder / "pictures")
    recipes = {"stages": stages(), "workers": workers(folder / "pictures")}
    for name, recipe in recipes.items():
        (folder / f"{name}.toml").write_text(recipe_to_toml(recipe))
        assert wait(child(lambda r=recipe, n=name: run(r, folder / n), folder / "log")) == 0
    size = RunFolder(folder / "stages").last_checkpoint.stat().st_size
    ways = {
        "term": ("stages", with_signals("training_step", 4, signal.SIGTERM)),
        "int": ("stages", with_signals("training_step", 9, signal.SIGINT)),
        "usr1": ("stages", with_signals("training_step", 11, signal.SIGUSR1)),
        "validating": ("stages", with_signals("validation_step", 10, signal.SIGTERM)),
        "ended": ("stages", with_signals("validation_step", 15, signal.SIGTERM)),
        "twice": ("stages", with_signals("training_step", 4, signal.SIGTERM, signal.SIGTERM)),
        "workers": ("workers", with_signals("training_step", 7, signal.SIGTERM)),
        "full": ("stages", short_of_disk(size - 1000)),
    }
    return {name: _ended(folder, name, *way) for name, way in ways.items()}


def _ended(folder: Path, way: str, kind: str, around: Callable[..., Any]) -> dict[str, Any]:
    path, log = folder / f"ended-{way}", folder / f"{way}.log"
    begin = called("run", folder / f"{kind}.toml", "--output", path)
    status = wait(child(around(begin), log))
    said = log.read_text()
    left = [p.name for p in path.rglob("*") if p.suffix == ".part" or p.name == "summary.json"]
    again = wait(child(lambda: resume(path), log))
    assert again == 0, log.read_text()
    unlike = differences(folder / kind, path)
    return {"status": status, "said": said, "left": left, "different": unlike}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
