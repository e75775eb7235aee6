"""Recipes, overrides and run folders that are damaged at random: a sentence, or a right answer.

``RNODE_DYN_FUZZ`` says how many; ``make soak`` asks for 20,000.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rnode_dyn import RecipeError, RunResult, load_recipe
from rnode_dyn.cli.app import app
from rnode_dyn.recipe.keys import keys_below
from rnode_dyn.recipe.library import packaged_recipes
from rnode_dyn.recipe.load import recipe_to_toml
from rnode_dyn.recipe.schema import Recipe

COUNT = int(os.environ.get("RNODE_DYN_FUZZ", "250"))
SECONDS = 60
STRANGE = ["0", "-1", "1e308", "1e-308", "nan", "inf", "10**9", "9" * 30, "9" * 5000, "''", '"a"',
           '"\\u0000"', '"[/x]"', '"../../x"', "true", "[]", "[[[]]]", "{}", "{a = 1}", "[" * 400,
           "1979-05-27", "0x10", "'''", "\\", "ü", "\x1b[2J", '"\\u001b]0;x"', "a.b = 1", "[x]",
           ".".join("a" * 500) + " = 1", "{a={" * 50 + "}" * 100, "\ud800", "\x00"]  # fmt: skip
FILES = ["recipe.toml", "summary.json", "metrics.csv", "report.html", "checkpoints/best.ckpt",
         "checkpoints/last.ckpt", "samples/samples.png", "checkpoints", "samples"]  # fmt: skip
HARMS = ["cut", "flip", "delete", "replace", "folder", "fifo", "unreadable", "strange"]
COMMANDS = [["report"], ["evaluate", "--limit", "4"], ["sample", "-n", "1"]]


def raw(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def examples(share: float) -> Any:
    suppressed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=max(1, int(share * COUNT)),
        deadline=None,
        derandomize=COUNT <= 500,
        database=None,
        suppress_health_check=suppressed,
    )


@contextmanager
def in_time() -> Iterator[None]:
    """Raise where something hangs."""

    def late(*args: object) -> None:
        raise AssertionError(f"it hung for {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def harmed(data: bytes, harm: str, where: float, what: bytes) -> bytes:
    place = int(where * len(data))
    if harm == "cut":
        return data[:place]
    if harm == "flip" and place < len(data):
        return data[:place] + bytes([data[place] ^ (1 << len(what) % 8)]) + data[place + 1 :]
    if harm == "replace":
        return what
    return data[:place] + what + data[place + len(what) :]


@examples(0.45)
@given(
    name=st.sampled_from(sorted(packaged_recipes())),
    changes=st.lists(
        st.tuples(
            st.sampled_from(["cut", "flip", "strange", "line", "value"]),
            st.floats(0, 1),
            st.one_of(st.sampled_from(STRANGE), st.text(max_size=20)),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_mutated_recipes(name: str, changes: list[tuple[str, float, str]]) -> None:
    text = recipe_to_toml(load_recipe(name)).encode()
    for kind, where, what in changes:
        lines = text.split(b"\n")
        place = int(where * (len(lines) - 1))
        strange = raw(what)
        if kind == "line":
            lines.insert(place, strange)
        elif kind == "value":
            lines[place] = lines[place].split(b"=")[0] + b"= " + strange
        text = (
            b"\n".join(lines) if kind in ("line", "value") else harmed(text, kind, where, strange)
        )
    with tempfile.TemporaryDirectory() as folder, in_time():
        path = Path(folder) / "mutated.toml"
        path.write_bytes(text)
        try:
            recipe = load_recipe(path)
        except RecipeError:
            return
        assert "/" not in recipe.name
        path.write_text(recipe_to_toml(recipe), encoding="utf-8")
        assert load_recipe(path) == recipe


KEYS = sorted(".".join(map(str, path)) for path in keys_below(Recipe))


@examples(0.45)
@given(
    key=st.one_of(st.sampled_from(KEYS), st.text(max_size=10), st.just(".".join("k" * 5000))),
    value=st.one_of(st.sampled_from(STRANGE), st.text(max_size=20), st.floats().map(str)),
)
def test_mutated_overrides(key: str, value: str) -> None:
    with in_time(), suppress(RecipeError):
        load_recipe("quickstart", [f"{key}={value}"])


@examples(0.1)
@given(
    file=st.sampled_from(FILES),
    harm=st.sampled_from(HARMS),
    where=st.floats(0, 1),
    what=st.one_of(st.binary(max_size=40), st.sampled_from(STRANGE).map(raw)),
    command=st.sampled_from(COMMANDS),
)
def test_damaged_run_folders(
    file: str, harm: str, where: float, what: bytes, command: list[str], finished: RunResult
) -> None:
    with tempfile.TemporaryDirectory() as place, in_time():
        folder = Path(shutil.copytree(finished.folder, Path(place) / "run"))
        _harm(folder / file, harm, where, what)
        there = os.getcwd()
        os.chdir(place)
        try:
            done = CliRunner().invoke(app, [command[0], "run", *command[1:]])
        finally:
            os.chdir(there)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert done.exit_code in (0, 1, 2), done.output
        assert "Traceback" not in done.output
        assert {path.name for path in Path(place).iterdir()} == {"run"}


def _harm(path: Path, harm: str, where: float, what: bytes) -> None:
    data = path.read_bytes() if path.is_file() else b""
    if harm == "unreadable":
        path.chmod(0)
        return
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm == "fifo":
        os.mkfifo(path)
    elif harm != "delete":
        path.write_bytes(harmed(data, harm, where, what))


@pytest.mark.parametrize("name", ["[/x]", "[bold]", ":smile:", "a [red]b[/] c"])
def test_markup_in_names_is_text(name: str, finished: RunResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / f"run {name.replace('/', '')}"))
    text = (folder / "recipe.toml").read_text()
    text = text.replace('title = ""', f'title = "{name}"').replace('"tiny"', '"small"')
    (folder / "recipe.toml").write_text(text)
    for command in (["sample", str(folder), "-n", "1"], ["evaluate", str(folder), "--limit", "2"],
                    ["show", str(folder / "recipe.toml")]):  # fmt: skip
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert name in done.output


@pytest.mark.parametrize(
    "given",
    [
        "train.threads=100000",
        "data.workers=100000",
        "train.max_minutes=1e300",
        'name="a/b"',
        'name="../../x"',
        f"{'.'.join('a' * 5000)}=1",
        f"name={'[' * 5000}",
        "name=\udcff",
        "name=\0",
        f"train.epochs={2**64}",
    ],
)
def test_what_cannot_be_meant_is_one_message(given: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["run", "moons", "--output", str(tmp_path / "x"), "--set", given]
    )
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    assert not (tmp_path / "x").exists()
