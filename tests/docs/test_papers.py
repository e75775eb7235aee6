"""The papers of the house say the same as the package: its version, its bounds, its licence."""

import re
import tomllib
from importlib.metadata import version

import pytest
import yaml

import rnode_dyn
from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_said_alike_everywhere() -> None:
    said = re.findall(r"^## (\d\S*)$", text_of("CHANGELOG.md"), re.M)
    assert said[0] == CITATION["version"] == rnode_dyn.__version__


def test_the_licence_is_the_one_that_is_named() -> None:
    assert "Apache License" in text_of("LICENSE")
    assert CITATION["license"] == PROJECT["license"] == "Apache-2.0"


@pytest.mark.parametrize("line", re.findall(r"^\w.*==.*$", text_of("oldest.txt"), re.M))
def test_the_oldest_versions_are_the_bounds(line: str) -> None:
    name, oldest = line.split("==")
    bound = next(need for need in PROJECT["dependencies"] if need.startswith(f"{name}>="))
    assert f"{oldest}.".startswith(f"{bound.removeprefix(f'{name}>=')}.")
    assert f"| {name} | {oldest} |" in text_of("CONTRIBUTING.md")


@pytest.mark.parametrize("name", ["torch", "torchvision", "pytorch-lightning", "tensorboard"])
def test_what_is_pinned_is_what_is_tested(name: str) -> None:
    assert f"\n{name}=={version(name).partition('+')[0]}\n" in text_of("constraints.txt")


def test_hooks_run_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    lint = text_of("Makefile").partition("\nlint:")[2].partition("\n\n")[0]
    assert {entry.split()[0] for entry in entries} == set(re.findall(r"\$\(BIN\)/(\S+)", lint))


@pytest.mark.parametrize("target", re.findall(r"`make ([\w-]+)", text_of("CONTRIBUTING.md")))
def test_targets_that_are_named_are_there(target: str) -> None:
    assert f"\n{target}" in text_of("Makefile")
    assert target in text_of("Makefile").partition(".PHONY:")[2].splitlines()[0].split()
