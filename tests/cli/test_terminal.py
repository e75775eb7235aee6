"""What a terminal shows: examples below help, narrow windows, lines before what takes long."""

import re
import shlex
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rnode_dyn.cli import app
from tests.cli.test_startup import COMMANDS
from tests.tiny import TINY

NARROW = 60


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": str(NARROW)})


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_ends_with_two_examples_that_are_understood(command: str) -> None:
    shown = call(*command.split(), "--help").stdout
    *_, head, first, second = [line.strip() for line in shown.splitlines() if line.strip()]
    assert head == "Examples:"
    group = typer.main.get_command(app)
    for example in (first, second):
        _, name, *arguments = shlex.split(example)
        assert name == command or not command
        found = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]
        assert found is not None
        found.make_context(name, arguments)


@pytest.mark.parametrize(
    "arguments",
    [*[[command, "--help"] for command in COMMANDS], ["--help"], ["recipes"], ["show", "mnist"]],
    ids=" ".join,
)
def test_a_narrow_terminal_is_kept_to(arguments: list[str]) -> None:
    shown = call(*arguments).stdout.splitlines()
    # Sentences below a table are left to the terminal to wrap.
    assert max(len(line) for line in shown if not re.search(r"\w, \w|; ", line)) <= NARROW


def test_a_run_says_what_it_is_about_to_do(tmp_path: Path) -> None:
    import tomli_w

    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tomli_w.dumps({**TINY, "train": {"max_steps": 1}}))
    folder = tmp_path / "run"
    said = call("run", recipe, "--output", folder).stderr
    places = [
        said.index(line)
        for line in (f"training in {folder}", "measuring on 60 test samples", "drawing samples")
    ]
    assert places == sorted(places)


def test_the_wall_clock_is_the_whole_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rnode_dyn import run
    from rnode_dyn.running import runner
    from tests.tiny import tiny

    # A drawing that takes an hour, on a clock of its own.
    late, draw = [0.0], runner.draw_pictures
    real = time.monotonic
    monkeypatch.setattr(runner.time, "monotonic", lambda: real() + late[0])

    def slow(*arguments: object) -> object:
        late[0] += 3600.0
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "draw_pictures", slow)
    summary = run(tiny(epochs=None, max_steps=1), tmp_path / "run").summary
    assert summary["wall_clock_s"] > 3600 > summary["training_s"]
