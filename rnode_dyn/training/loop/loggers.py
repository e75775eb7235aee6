"""Lightning's loggers by a recipe's ``[train.logger]``; ``metrics.csv`` is written beside any."""

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from pytorch_lightning import loggers
from pytorch_lightning.loggers import Logger

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.plugins import LoggerRecipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.recipe.spelling import nearest_name
from rnode_dyn.runs.folder import RunFolder


class _Kind(NamedTuple):
    """A logger of Lightning's.

    Attributes:
        kind: Its class.
        needs: The package that has to be installed.
        usual: Its keys for a run, where the recipe does not say them.
    """

    kind: type[Logger]
    needs: str
    usual: Callable[[Recipe, RunFolder], dict[str, Any]]


_KINDS = {
    "tensorboard": _Kind(
        loggers.TensorBoardLogger,
        "tensorboard",
        lambda recipe, run: {"save_dir": str(run.path), "name": "tensorboard", "version": ""},
    ),
    "wandb": _Kind(
        loggers.WandbLogger,
        "wandb",
        lambda recipe, run: {
            "save_dir": str(run.path),
            "project": recipe.name,
            "name": run.path.name,
        },
    ),
    "mlflow": _Kind(
        loggers.MLFlowLogger,
        "mlflow",
        lambda recipe, run: {
            "tracking_uri": f"sqlite:///{run.path.resolve() / 'mlflow.db'}",
            "experiment_name": recipe.name,
            "run_name": run.path.name,
        },
    ),
}


def check_logger(recipe: Recipe) -> None:
    """Refuse a logger that is not installed, or does not know its keys.

    Raises:
        RecipeError: with the line that installs it.
    """
    named = recipe.train.logger
    if named is None or named.kind == "csv":
        return
    known, place = _KINDS[named.kind], f"recipe {recipe.name}"
    if find_spec(known.needs) is None:
        reason = f"{known.needs} is not installed: python -m pip install 'rnode-dyn[{named.kind}]'"
        raise RecipeError(Problem(place, "train.logger", reason))
    takes = [name for name in inspect.signature(known.kind).parameters if name != "kwargs"]
    for key in named.keys:
        if key not in takes:
            allowed, near = f"the keys {', '.join(takes)}", nearest_name(key, takes)
            reason = f"Lightning's {known.kind.__name__} has no such key"
            raise RecipeError(Problem(place, f"train.logger.{key}", reason, "", allowed, near))


def build_logger(recipe: Recipe, folder: RunFolder) -> Logger | None:
    """Return the logger of a recipe for a run; ``None`` for ``metrics.csv`` alone."""
    named: LoggerRecipe | None = recipe.train.logger
    if named is None or named.kind == "csv":
        return None
    known = _KINDS[named.kind]
    return known.kind(**{**known.usual(recipe, folder), **named.keys})
