"""`report` of one run and of several."""

import json
import shutil
from pathlib import Path

import pytest

from rnode_dyn import RunResult
from tests.cli.calling import call, words_of


def test_report_prints_tables_and_draws(
    finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = shutil.copytree(finished.folder, tmp_path / "other")
    (other / "report.html").unlink()
    result = call("report", finished.folder, other)
    assert result.exit_code == 0
    assert result.stdout.startswith("| run | bits/dim |")
    assert "| tiny (other) |" in result.stdout
    assert "times as fast" in result.stdout
    assert (other / "report.html").is_file()
    assert (tmp_path / "report" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert f"written: {other / 'report.html'}" in result.stderr


def test_report_of_one_run_draws_into_its_folder(finished: RunResult, tmp_path: Path) -> None:
    run_path = shutil.copytree(finished.folder, tmp_path / "run")
    printed = json.loads(call("report", run_path, "--x", "steps", "--json").stdout)
    assert printed["curves"] == str(run_path / "curves.png")
    assert printed["reached"] is None
    assert printed["runs"][0]["summary"] == finished.summary
    elsewhere = call("report", run_path, "--output", tmp_path / "new" / "deep", "--json").stdout
    assert Path(json.loads(elsewhere)["curves"]).parent == tmp_path / "new" / "deep"


def test_report_refuses_what_has_no_effect(finished: RunResult, tmp_path: Path) -> None:
    run_path = shutil.copytree(finished.folder, tmp_path / "run")
    twice = call("report", run_path, tmp_path / "." / "run")
    assert (twice.exit_code, "given twice" in words_of(twice.stderr)) == (2, True)
    (run_path / "metrics.csv").unlink()
    nothing = call("report", run_path, "--output", tmp_path / "new")
    assert (nothing.exit_code, "leave it out" in words_of(nothing.stderr)) == (2, True)
    assert not (tmp_path / "new").exists()
    assert "no curve" in call("report", run_path).stderr
