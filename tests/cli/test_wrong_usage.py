"""Every way to get the command wrong, and what it says then."""

from pathlib import Path

import pytest

from rnode_dyn import NonFiniteStateError, SolverError
from tests.cli.calling import call


def test_a_folder_below_a_file_is_refused(recipe: Path) -> None:
    result = call("run", recipe, "--output", recipe / "run")
    assert (result.exit_code, str(recipe) in result.stderr) == (2, True)


WRONG = {
    "unknown key": (["data.batchsize=3"], ["data.batchsize", "did you mean data.batch_size"]),
    "wrong type": (["data.batch_size=many"], ["data.batch_size", "'many'", "whole number"]),
    "unknown data set": (["data.dataset=digit"], ["data.dataset", "did you mean digits"]),
    "unknown algorithm": (["solver.algorithm=dopri4"], ["solver.algorithm", "did you mean dopri"]),
    "negative step": (["solver.step=-0.25"], ["solver.step", "-0.25"]),
    "image too small": (
        ["model.scale=[{blocks=1, squeeze=true}, {squeeze=true}, {squeeze=true}, {squeeze=true}]"],
        ["model.scale.3", "scale 3", "(64, 1, 1)", "cannot be squeezed"],
    ),
    "missing data": (["data.dataset=mnist", "data.root=nowhere"], ["nowhere", "MNIST"]),
    "conv on vectors": (
        ["data.dataset=moons", "model.logit_alpha=0", "model.field.kind=conv"],
        ["model.field.kind", "mlp"],
    ),
}


@pytest.mark.parametrize(("overrides", "says"), WRONG.values(), ids=WRONG.keys())
def test_wrong_recipes_exit_2_with_one_message(
    overrides: list[str], says: list[str], recipe: Path, tmp_path: Path
) -> None:
    sets = [part for text in overrides for part in ("--set", text)]
    result = call("run", recipe, *sets, "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in result.stderr
    for fragment in says:
        assert fragment in result.stderr


@pytest.mark.parametrize("command", ["run", "show"])
@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such recipe"), ("name = 1 2", "line 1"), ("name = 'x'\n", "data")],
)
def test_unusable_files_exit_2(
    command: str, content: str | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_text(content)
    result = call(command, path)
    assert (result.exit_code, says in result.stderr) == (2, True)
    assert str(path) in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "moons", "--resume", "somewhere"],
        ["run", "--resume", "nowhere"],
        ["evaluate", "nowhere"],
        ["evaluate", "nowhere", "--split", "half"],
        ["sample", "nowhere"],
        ["sample", "nowhere", "-n", "0"],
        ["sample", "nowhere", "--temperature", "-1"],
        ["sample", "nowhere", "--temperature", "nan"],
        ["sample", "nowhere", "--seed", "9" * 25],
        ["report"],
        ["report", "nowhere"],
        ["report", "nowhere", "--x", "epochs"],
        ["fly"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr


def broken_solve() -> SolverError:
    return NonFiniteStateError("it broke", t=0.5, dt=0.1, steps=3, nfe=12, worst_sample=7)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (broken_solve(), 1, "it broke (t = 0.5, dt = 0.1, 3 steps, 12 evaluations"),
    ],
)
def test_failures_have_their_exit_status(
    error: BaseException, code: int, says: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("rnode_dyn.running.runner.run", fail)
    result = call("run", recipe)
    assert (result.exit_code, says in result.stderr) == (code, True)
