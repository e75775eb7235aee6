"""The command lines of the documentation, in blocks and in sentences, and whether they are right.

Nothing is run here: options, recipes, keys, scripts and what these take, targets and files are
looked up. What is cheap is performed by ``console.py``.
"""

import argparse
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from rnode_dyn.cli import app
from rnode_dyn.runs.grid import members
from rnode_dyn.runs.space import check_spaces, parse_space
from tests.docs.pages import PAGES, ROOT, blocks_of, name_of, sentences_of

COMMANDED = [*PAGES, ROOT / "CONTRIBUTING.md"]
"""Pages on which there are command lines."""

PLACEHOLDERS = {"NAME": "moons", "NAME…": "moons", "RECIPE": "moons", "--set …": "", "…": ""}
"""What stands for something of the reader's own, and what is tried in its place."""

OTHERS = {"mkdocs", "pip", "pre-commit", "tensorboard", "venv"}
"""Programs that are not ours, and whose arguments are not looked at."""

EXTRAS = {"diffrax", "jax", "sklearn", "torchdiffeq", "torchode", "zuko"}
"""Modules that a script may want and that need not be here."""

LAUNCHERS = {"torchrun", "srun"}

_SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Command(NamedTuple):
    """A command line, and where it stands.

    Attributes:
        page: The page's name.
        line: The line, without an environment's path and a launcher.
    """

    page: str
    line: str


def lines_in(text: str) -> Iterator[str]:
    """The lines of a block, continued ones joined, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield plain(line)


def plain(line: str) -> str:
    r"""The line without its variables, its launcher and the path of an environment.

    >>> plain(".venv/bin/pytest tests/flows -x")
    'pytest tests/flows -x'
    >>> plain("SEED=3 torchrun --nproc-per-node=2 -m rnode_dyn run moons")
    'rnode-dyn run moons'
    """
    words = line.strip().replace(".venv/bin/", "").split()
    while "=" in words[0]:
        words = words[1:]
    if words[0] == "torchrun" and "rnode_dyn" in words:
        return " ".join(["rnode-dyn", *words[words.index("rnode_dyn") + 1 :]])
    return " ".join(words[1:] if words[0] == "srun" else words)


def is_command(text: str) -> bool:
    """Whether what stands in a sentence as code is a command with arguments."""
    words = text.replace(".venv/bin/", "").split()
    while words and "=" in words[0]:
        words = words[1:]
    known = {"rnode-dyn", "python", "python3", "make", "pytest", *OTHERS, *LAUNCHERS}
    return len(words) > 1 and words[0] in known


def commands() -> Iterator[Command]:
    """Every command line of the documentation."""
    for page in COMMANDED:
        for block in blocks_of(page, "sh"):
            yield from (Command(name_of(page), line) for line in lines_in(block.text))
        for text in filter(is_command, sentences_of(page)):
            yield Command(name_of(page), plain(text))


def words_of(line: str) -> list[str]:
    """The words of a line, its comment left out and its placeholders filled.

    >>> words_of("rnode-dyn bench NAME --rounds 2 --set …  # times here")
    ['rnode-dyn', 'bench', 'moons', '--rounds', '2']
    """
    for name, instead in PLACEHOLDERS.items():
        line = re.sub(rf" {re.escape(name)}(?= |$)", f" {instead}", line)
    return shlex.split(line, comments=True)


def check(line: str) -> None:
    """See that a command line could be performed here.

    Raises:
        AssertionError: if it names what is not there; or whatever the program says against it.
    """
    program, *arguments = words_of(line)
    if program in ("python", "python3"):
        _check_python(arguments)
    elif program in _CHECKS:
        _CHECKS[program](arguments)
    else:
        assert program in OTHERS, f"{line}: a program that the tests do not know"


def _check_ours(arguments: list[str]) -> None:
    group = typer.main.get_command(app)
    name, *options = arguments
    command = group.get_command(typer.Context(group), name)  # type: ignore[attr-defined]
    assert command is not None, f"there is no command {name}"
    if options:  # else it is the command that is spoken of
        _check_recipe(command.make_context(name, options).params)


def _check_recipe(given: dict[str, Any]) -> None:
    """Load the recipe as the command will: unknown recipes, keys and values are refused.

    The keys of a run that is measured or goes on are tried on a recipe that has them all.
    """
    recipe = given.get("recipe") or given.get("recipe_name") or "quickstart-warm"
    overrides = given.get("overrides") or []
    members(recipe, given.get("grid") or [], given.get("seeds") or 1, overrides)
    check_spaces(recipe, [parse_space(text) for text in given.get("spaces") or []], overrides)


def _check_python(arguments: list[str]) -> None:
    first, *options = arguments
    if first == "-m":
        module, *options = options
        assert module in OTHERS or (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
    else:
        check_script(ROOT / first, options)


def check_script(script: Path, options: list[str]) -> None:
    """See that a script is there and takes these options: it is left once it has read them."""
    assert script.is_file(), f"there is no {name_of(script)}"
    if "parse_args" not in script.read_text(encoding="utf-8"):
        assert not options, f"{name_of(script)} takes nothing"
        return
    read = argparse.ArgumentParser.parse_args

    def read_and_leave(parser: argparse.ArgumentParser) -> None:
        read(parser)
        raise _HasReadError

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(script.parent))
        patch.setattr(sys, "argv", [script.name, *options])
        patch.setattr(argparse.ArgumentParser, "parse_args", read_and_leave)
        with pytest.raises(_HasReadError):
            _run(script)


class _HasReadError(Exception):
    """A script has read its command line."""


def _run(script: Path) -> None:
    try:
        runpy.run_path(str(script), run_name="__main__")
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"{script.name} needs {error.name}")


def _check_make(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in arguments if "=" not in word):
        rule = rf"^(?:[\w-]+ )*{re.escape(target)}(?: [\w-]+)*:"
        assert re.search(rule, makefile, re.M), f"there is no target {target}"


def _check_tests(arguments: list[str]) -> None:
    for path in (word for word in arguments if word.startswith("tests/")):
        assert list(ROOT.glob(path)), f"there is no {path}"


def _check_install(arguments: list[str]) -> None:
    for extra in (word for word in arguments if word.startswith("rnode-dyn[")):
        name = extra.removeprefix("rnode-dyn[").removesuffix("]")
        assert name in _SETUP["optional-dependencies"], f"there is no {extra}"


_CHECKS = {
    "rnode-dyn": _check_ours,
    "make": _check_make,
    "pytest": _check_tests,
    "pip": _check_install,
}
