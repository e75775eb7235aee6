"""The report is there while a run trains, no more often than it may be."""

from pathlib import Path

import pytest

from rnode_dyn import run
from rnode_dyn.report.html import write_report
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.loop import live_report, trainer
from tests.tiny import tiny


@pytest.mark.parametrize(("seconds", "times"), [(0.0, 2), (3600.0, 0)])
def test_a_report_comes_with_validations(
    seconds: float, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def write(folder: RunFolder) -> Path:
        path = write_report(folder)
        written.append(path.read_text())
        return path

    monkeypatch.setattr(live_report, "write_report", write)
    monkeypatch.setattr(trainer, "LiveReport", lambda f: live_report.LiveReport(f, seconds))
    recipe = tiny(epochs=2).model_copy(
        update={"samples": tiny().samples.model_copy(update={"every": 1})}
    )
    run(recipe, tmp_path / "run")
    assert len(written) == times
    assert all("This run is unfinished" in page for page in written)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "unfinished" not in page
    assert "<p>epoch 0001</p>" in page
