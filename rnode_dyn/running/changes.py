"""What has changed since a run was left, and whether it can go on all the same."""

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.kept import kept_beside
from rnode_dyn.running.fingerprint import other_data

_MAY_CHANGE = re.compile(
    r"name|title|samples\..*"
    r"|data\.(root|workers|eval_batch_size|checksums)(\..*)?"
    r"|(model\.scale\.\d+\.)?(solver|divergence)\.eval\..*"
    r"|train\.(stage\.\d+\.)?(max_steps|max_minutes|epochs|learning_rate|warmup_steps|schedule)"
    r"|train\.(weight_decay|clip|validate_every|validate_every_steps|on_nonfinite|accumulate)"
    r"|train\.(checkpoint_every_steps|checkpoint_every_minutes|governor\..*)"
    r"|train\.(devices|nodes|accelerator|strategy|precision|threads)"
)
"""Keys that a training may be gone on with otherwise; all else makes it another training."""


class Change(NamedTuple):
    """A key of the recipe that is not as it was."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        """The change in words."""
        return f"{self.key} = {_words(self.now)}, before: {_words(self.before)}"


def changes_in(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return what differs between two recipes, given as tables.

    Example:
        >>> print(*changes_in({"train": {"epochs": 5}}, {"train": {"max_steps": 9}}), sep="; ")
        train.epochs = absent, before: 5; train.max_steps = 9, before: absent
    """
    flat = [dict(_leaves(table)) for table in (before, now)]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    pairs = (Change(key, flat[0].get(key), flat[1].get(key)) for key in keys)
    return [change for change in pairs if change.before != change.now]


def accept_changes(
    checkpoint: dict[str, Any],
    recipe: Recipe,
    about: dict[str, Any],
    folder: RunFolder,
    tell: Callable[[str], None],
) -> list[Change]:
    """Tell what has changed since a checkpoint was written, if the run can go on so.

    Args:
        checkpoint: The checkpoint.
        recipe: The recipe now.
        about: What the run's checkpoints tell of it now: recipe, data, versions.
        folder: The run.
        tell: Takes a sentence for each change.

    Raises:
        RunError: if it would be another training.
    """
    kept = kept_beside(checkpoint)
    if "recipe" not in kept:  # an older version's checkpoint tells nothing
        return []
    changes = changes_in(_table(kept["recipe"]), _table(about["recipe"]))
    _refuse_another_training(changes, folder)
    difference = other_data(kept["data"], about["data"])
    if difference is not None:
        raise RunError(
            f"{folder.path} cannot go on with other data: {difference} when its checkpoint was "
            "written. Put the data back, or begin a new run."
        )
    _refuse_an_end_that_is_past(checkpoint, recipe, folder)
    for name, version in about["versions"].items():
        was = kept["versions"].get(name, version)
        if was != version:
            tell(f"{name} was {was} when the checkpoint was written, and is {version} now")
    for change in changes:
        tell(f"from here on {change}")
    return changes


def _refuse_another_training(changes: list[Change], folder: RunFolder) -> None:
    for change in changes:
        if not _MAY_CHANGE.fullmatch(change.key):
            raise RunError(
                f"{folder.path} cannot go on with {change}: it would be another training. "
                "Leave it as it was, or begin a new run."
            )


def _refuse_an_end_that_is_past(
    checkpoint: dict[str, Any], recipe: Recipe, folder: RunFolder
) -> None:
    number = checkpoint["rnode_dyn"]["stage"]
    stage, place = recipe.train.stages[number], kept_beside(checkpoint)["place"]
    ended = place["batch"] >= place["batches"] > 0 and not place["validation_due"]
    own = f"train.stage.{number}" if recipe.train.stage else "train"
    for key, done in (("max_steps", checkpoint["global_step"]), ("epochs", place["epoch"] + ended)):
        wanted = getattr(stage, key)
        if wanted is not None and done > wanted:
            raise RunError(
                f"{folder.path} cannot end at {own}.{key} = {wanted}: it is at {done} already. "
                "Write a larger number."
            )


def _table(toml: str) -> dict[str, Any]:
    """A recipe's table, completed by the defaults that it does not say."""
    table = tomllib.loads(toml)
    try:
        return Recipe.model_validate(table).model_dump(exclude_none=True)
    except ValidationError:  # of a version that knew other keys
        return table


def _leaves(table: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(table, Mapping):
        parts = list(table.items())
    elif isinstance(table, list | tuple) and any(isinstance(item, Mapping) for item in table):
        parts = list(enumerate(table))
    else:
        return [(path, list(table) if isinstance(table, tuple) else table)]
    return [leaf for key, value in parts for leaf in _leaves(value, f"{path}.{key}".lstrip("."))]


def _words(value: Any) -> str:
    return "absent" if value is None else str(value)
