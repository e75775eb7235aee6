"""A trained run from Python: by folder or by recipe name, whole, or refused in a sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from rnode_dyn import FlowDistribution, RunError, RunResult, load_run
from rnode_dyn.runs.find import find_run
from rnode_dyn.runs.folder import RunFolder
from tests.tiny import weights


def test_a_run_is_what_was_trained(finished: RunResult) -> None:
    trained = load_run(str(finished.folder))
    best = torch.load(RunFolder(finished.folder).best_checkpoint, weights_only=True)["state_dict"]
    state = trained.flow.state_dict()
    assert all(torch.equal(value, best[f"model.{name}"]) for name, value in state.items())
    assert not trained.flow.training
    assert (trained.recipe.name, trained.summary) == ("tiny", finished.summary)
    assert trained.metrics[-1]["step"] == 7


def test_its_distribution_samples_and_scores(finished: RunResult) -> None:
    distribution = load_run(finished.folder).distribution(temperature=0.5)
    assert isinstance(distribution, FlowDistribution)
    assert distribution.temperature == 0.5
    samples = distribution.sample((3,))
    assert samples.shape == (3, 1, 8, 8)
    assert distribution.log_prob(torch.rand(3, 1, 8, 8)).shape == (3,)


def test_the_last_weights_can_be_asked_for(finished: RunResult) -> None:
    trained = load_run(finished.folder, checkpoint="last")
    last = weights(finished.folder)
    state = trained.flow.state_dict()
    assert all(torch.equal(value, last[f"model.{name}"]) for name, value in state.items())


def test_a_recipes_name_is_its_newest_run(
    finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stamps = ("20260101-000000", "20260301-000000", "20260201-000000")
    for stamp in stamps:
        shutil.copytree(finished.folder, tmp_path / "runs" / f"tiny-{stamp}")
    shutil.copytree(finished.folder, tmp_path / "runs" / "tiny-other-20270101-000000")
    (tmp_path / "runs" / "tiny-20280101-000000").mkdir()  # no run: it has no recipe
    assert load_run("tiny").folder.path == Path("runs") / f"tiny-{stamps[1]}"
    assert find_run(finished.folder).path == finished.folder


def test_a_packaged_recipes_name_is_that_of_its_runs(
    finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "ablation-none-20260101-000000"
    shutil.copytree(finished.folder, run)
    assert find_run("ablation/none").path.name == run.name


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: folder.recipe.unlink(), "has no recipe.toml"),
        (lambda folder: folder.best_checkpoint.write_bytes(b"PK"), r"best\.ckpt cannot be read"),
        (lambda folder: folder.best_checkpoint.unlink(), "has no checkpoint 'best', but last"),
        (lambda folder: folder.summary.write_text("{"), "has a file that is damaged"),
    ],
    ids=["recipe", "damaged", "missing", "summary"],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(harm: object, says: str, copied: Path) -> None:
    harm(RunFolder(copied))  # type: ignore[operator]
    with pytest.raises(RunError, match=says):
        load_run(copied)


def test_an_unfinished_run_has_no_summary(copied: Path) -> None:
    RunFolder(copied).summary.unlink()
    assert load_run(copied).summary is None


def test_no_code_in_a_checkpoint_is_run(copied: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (copied / "sprung",)

    torch.save({"state_dict": {}, "trap": Trap()}, RunFolder(copied).best_checkpoint)
    with pytest.raises(RunError, match="cannot be read"):
        load_run(copied)
    assert not (copied / "sprung").exists()
    assert json.loads(RunFolder(copied).summary.read_text())
