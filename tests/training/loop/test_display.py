"""What is shown while a flow trains: a live display on a terminal, plain lines elsewhere."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from rnode_dyn import run
from rnode_dyn.training.loop.display import _clock
from tests.tiny import tiny

SHOWN = ("bits/dim", "kinetic", "jacobian", "evaluations 8", "held-out bits/dim")


def shown_while_training(tmp_path: Path, **console: object) -> str:
    stream = io.StringIO()
    run(tiny(), tmp_path / "run", console=Console(file=stream, width=80, **console))  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_terminal_sees_every_figure_within_its_width(tmp_path: Path) -> None:
    output = shown_while_training(tmp_path, force_terminal=True)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    assert "8/8" in plain
    assert "left 0:00" in plain
    assert all(figure in plain for figure in SHOWN)
    assert "…" not in plain
    assert output.rstrip().endswith("\x1b[?25h")  # the cursor is given back


def test_elsewhere_there_are_plain_lines(tmp_path: Path) -> None:
    output = shown_while_training(tmp_path)
    assert "\x1b" not in output
    last = output.splitlines()[-1]
    assert last.startswith("step 8/8  ")
    assert last.endswith("left 0:00")
    assert all(figure in last for figure in SHOWN)


@pytest.mark.parametrize("terminal", [True, False])
def test_each_of_several_stages_is_named(tmp_path: Path, terminal: bool) -> None:
    stages = [{"objective": "flow-matching", "max_steps": 2}, {"max_steps": 2}]
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=terminal)
    run(tiny(epochs=None, stage=stages), tmp_path / "run", console=console)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    names = ["stage 1/2, flow-matching", "stage 2/2, likelihood"]
    assert [line.strip() for line in plain.splitlines() if line.startswith("stage")] == names


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0.4, "0:00"), (59.7, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_clock(seconds: float, clock: str) -> None:
    assert _clock(seconds) == clock
