"""`run`: what it prints."""

import json
from pathlib import Path

from tests.cli.calling import call


def test_run_prints_a_table_and_the_folder(recipe: Path, tmp_path: Path) -> None:
    result = call("run", recipe, "--output", tmp_path / "run")
    assert result.exit_code == 0
    assert "bits per dim" in result.stdout
    assert f"run folder: {tmp_path / 'run'}" in result.stdout
    assert "step 2" in result.stderr  # plain lines, since this is no terminal


def test_run_prints_json_alone(recipe: Path, tmp_path: Path) -> None:
    result = call("run", recipe, "--output", tmp_path / "run", "--set", "seed=9", "--json")
    printed = json.loads(result.stdout)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert printed == {"run": str(tmp_path / "run"), **summary}
    assert printed["seed"] == 9
