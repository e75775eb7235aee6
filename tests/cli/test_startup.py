"""What starts at once: help, lists, completion and refusals import neither torch nor Lightning."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "torchdyn", "pytorch_lightning", "lightning_fabric", "torchvision", "matplotlib"}

# Runs a command in a process of its own, and tells what has been loaded when it ends.
COMMAND = """
import json, sys
from rnode_dyn.cli import main
try:
    main()
except SystemExit as end:
    status = end.code or 0
print(json.dumps([status, sorted(sys.modules)]), file=sys.__stderr__)
"""


def loaded_by(*arguments: str, cwd: Path, **environment: str) -> tuple[int, set[str], str]:
    """Return the exit status, the modules that were loaded, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    *said, last = done.stderr.splitlines()
    status, modules = json.loads(last)
    return status, set(modules), done.stdout + "\n".join(said)


COMMANDS = (
    *("run", "evaluate", "sample", "score", "export"),
    *("report", "sweep", "show", "bench", "recipes"),
)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--help"], 0, "continuous normalizing flows"),
        *[([command, "--help"], 0, "Usage") for command in COMMANDS],
        (["--version"], 0, "rnode-dyn 0"),
        (["recipes"], 0, "mnist14-warm"),
        (["recipes", "--json"], 0, "mnist14-warm"),
        *[([command, "mnits"], 2, "did you mean mnist?") for command in ("show", "run", "bench")],
        (["show", "mnist", "--set", "train.epoch=3"], 2, "did you mean train.epochs?"),
        (["show", "mnist", "--set", "nonsense"], 2, "not an override"),
        (["run", "mnist", "--set", "data.batch_size=0"], 2, "data.batch_size"),
        *[([c, "nowhere"], 2, "is no run folder") for c in ("evaluate", "sample", "report")],
        (["run", "--resume", "nowhere"], 2, "is no run folder"),
        (["run"], 2, "say which RECIPE"),
        (["show", "mnist", "--flops", "-1"], 2, "write a positive number"),
        (["sweep", "moons", "--grid", "train.epoch=1,2"], 2, "did you mean train.epochs?"),
        (["sweep", "moons"], 2, "--seeds N"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_it_is_said_without_torch(
    arguments: list[str], status: int, says: str, tmp_path: Path
) -> None:
    found, modules, printed = loaded_by(*arguments, cwd=tmp_path, COLUMNS="200")
    assert (found, says in printed) == (status, True), printed
    assert not modules & HEAVY


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("show mnist14-f", "mnist14-ffjord"),
        ("run moons --set train.learning", "train.learning_rate="),
        ("evaluate runs/mo", "runs/moons-20260101-000000"),
        ("eval", "evaluate"),
    ],
)
def test_a_shell_completes_without_torch(typed: str, offered: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "moons-20260101-000000"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text('name = "moons"')
    words = ["rnode-dyn", *typed.split()]
    environment = {
        "_RNODE_DYN_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    code = COMMAND.replace("main()\nexcept", 'app(prog_name="rnode-dyn")\nexcept')
    done = subprocess.run(
        [sys.executable, "-c", code.replace("import main", "import app")],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert offered in done.stdout.split()
    assert not set(json.loads(done.stderr.splitlines()[-1])[1]) & HEAVY


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import rnode_dyn; rnode_dyn.__version__", HEAVY),
        ("from rnode_dyn import load_recipe; load_recipe('mnist')", HEAVY),
        ("from rnode_dyn import RecipeError, RunError, DataError, SolverError", HEAVY),
        ("from rnode_dyn import RK4", HEAVY - {"torch", "torchdyn"}),
        (
            "from rnode_dyn import ODEProblem, Solver, solve, CheckpointedAdjoint, MLPField",
            HEAVY - {"torch", "torchdyn"},
        ),
        ("from rnode_dyn import LogitTransform, HutchinsonDivergence", HEAVY - {"torch"}),
    ],
)
def test_a_name_imports_what_it_needs_and_no_more(code: str, absent: set[str]) -> None:
    telling = f"{code}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", telling], capture_output=True, text=True, check=True
    )
    assert not set(json.loads(done.stdout)) & absent


def test_every_public_name_can_be_used() -> None:
    import rnode_dyn

    assert all(getattr(rnode_dyn, name) is not None for name in rnode_dyn.__all__)
    with pytest.raises(AttributeError, match="RK5"):
        rnode_dyn.RK5  # noqa: B018
