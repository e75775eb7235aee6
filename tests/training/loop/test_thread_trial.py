"""`train.threads = "auto"`: what it chooses, where that is written, and that no more changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rnode_dyn import run
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.loop import thread_trial
from tests.tiny import same_weights, tiny


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def choose(threads: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the trial make its steps, and end with this number."""
    trials: list[int] = []

    def faster(step: object) -> int:
        step()  # type: ignore[operator]
        trials.append(threads)
        return threads

    monkeypatch.setattr(thread_trial, "faster_threads", faster)
    return trials


@pytest.mark.parametrize("threads", [1, 2])
def test_the_choice_given_as_a_number_repeats_the_run(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial moves no weight and draws no number."""
    trials = choose(threads, monkeypatch)
    few = {"epochs": None, "max_steps": 1}
    chosen = run(tiny(**few), tmp_path / "auto")
    assert (chosen.summary["threads"], trials) == (threads, [threads])
    assert torch.get_num_threads() == 2
    given = run(tiny(**few, threads=threads), tmp_path / "given")
    assert given.summary["threads"] == threads
    assert same_weights(chosen.folder, given.folder)


def test_a_run_that_goes_on_keeps_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(1, monkeypatch)
    run(tiny(epochs=1), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.recipe.write_text(folder.recipe.read_text().replace("epochs = 1", "epochs = 2"))
    trials = choose(2, monkeypatch)
    assert (resume(folder.path).summary["threads"], trials) == (1, [])


def test_every_stage_chooses_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = choose(1, monkeypatch)
    stages = [{"objective": "flow-matching", "max_steps": 2}, {"max_steps": 2}]
    run(tiny(epochs=None, stage=stages), tmp_path / "run")
    assert trials == [1, 1]
