"""Command lines of the documentation, performed: each as it stands, but cut to a few steps."""

import re
from itertools import pairwise

from typer.testing import CliRunner, Result

from rnode_dyn.cli import app
from rnode_dyn.recipe.library import packaged_recipes
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from tests.docs.commands import check, words_of

LIGHT = {"digits", "moons"}
"""Data sets whose recipes are trained here; of others the recipe is checked with its overrides."""

_FEW = {"data.test_size": "12", "data.validation_size": "8", "data.eval_batch_size": "12"}
_SMALL = {"samples.count": "4", "samples.temperatures": "[0.9]"}


def perform(line: str) -> None:
    """Do what a line says, or see that it could be done.

    Raises:
        AssertionError: if it fails, or names what is not there.
    """
    program, *arguments = words_of(line)
    if program == "rnode-dyn":
        _perform_ours(*arguments)
    else:
        check(line)


def call(*arguments: str) -> Result:
    """What the command answers."""
    return CliRunner().invoke(app, list(arguments))


def _perform_ours(command: str, *arguments: str) -> None:
    shortened = _SHORTENED.get(command, _as_it_is)(list(arguments))
    if shortened is not None:
        done = call(command, *shortened)
        assert done.exit_code == 0, done.output


def _as_it_is(arguments: list[str]) -> list[str]:
    return arguments


def _training(arguments: list[str]) -> list[str] | None:
    """A run of two steps, or None where it is too large: then the recipe has been checked."""
    if "--resume" in arguments:
        return [re.sub(r"^(train\.max_steps)=.*", r"\1=3", word) for word in arguments]
    recipe, overrides = arguments[0], _overrides(arguments)
    loaded = load_recipe(recipe, [f"{key}={value}" for key, value in overrides.items()])
    if loaded.data.dataset not in LIGHT or loaded.train.devices != 1:
        return None
    others = [word for word in _without_overrides(arguments) if word != recipe]
    short = overrides | _FEW | _SMALL | _ends(loaded)
    return [recipe, *others, *(f"--set={key}={value}" for key, value in short.items())]


def _ends(recipe: Recipe) -> dict[str, str]:
    """Overrides that end each stage after two steps."""
    stages = recipe.train.stage
    ends = {f"train.stage.{k}.max_steps": "2" for k, s in enumerate(stages) if s.has_length}
    return ends if len(ends) == len(stages) > 0 else ends | {"train.max_steps": "2"}


def _overrides(arguments: list[str]) -> dict[str, str]:
    given = [arguments[k + 1] for k, word in enumerate(arguments) if word == "--set"]
    return {key: value for key, _, value in (word.partition("=") for word in given)}


def _without_overrides(arguments: list[str]) -> list[str]:
    return [
        word
        for k, word in enumerate(arguments)
        if word != "--set" and (k == 0 or arguments[k - 1] != "--set")
    ]


def _drawing(arguments: list[str]) -> list[str] | None:
    """Samples of a run, or None where it is a recipe's that has not been run."""
    known = packaged_recipes().get(arguments[0])
    return None if known and load_recipe(known).data.dataset not in LIGHT else arguments


def _export(arguments: list[str]) -> list[str]:
    """Few steps: a graph has each of them in it, and takes long to be made."""
    return ["0.5" if before == "--step" else w for before, w in pairwise(["", *arguments])]


def _evaluation(arguments: list[str]) -> list[str]:
    given = [re.sub(r"^(data\.\w+_size)=.*", r"\1=4", word) for word in arguments]
    return _fewer(given, 2) if "--limit" in given else [*given, "--limit", "4"]


def _fewer(arguments: list[str], count: int) -> list[str]:
    at = arguments.index("--limit") + 1
    return [*arguments[:at], str(count), *arguments[at + 1 :]]


def _costs(arguments: list[str]) -> list[str] | None:
    """A look at a model; where times are taken of a large one, only its recipe is checked."""
    load_recipe(arguments[0], [f"{k}={v}" for k, v in _overrides(arguments).items()])
    return None if "--measure" in arguments else arguments


def _bench(arguments: list[str]) -> list[str] | None:
    large = load_recipe(arguments[0]).data.dataset not in LIGHT
    return None if large else [arguments[0], "--batch-size", "4", "--rounds", "1"]


def _sweep(arguments: list[str]) -> list[str]:
    once = ["1" if before == "--trials" else word for before, word in pairwise(["", *arguments])]
    short = _FEW | _SMALL | {"train.max_steps": "2"}
    return [*once, *(f"--set={key}={value}" for key, value in short.items())]


_SHORTENED = {
    "run": _training,
    "evaluate": _evaluation,
    "sample": _drawing,
    "export": _export,
    "show": _costs,
    "bench": _bench,
    "sweep": _sweep,
}
