"""What differs between two recipes of a run, and whether it is the same training all the same."""

import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from rnode_dyn.recipe.schema import Recipe

_MAY_CHANGE = re.compile(
    r"name|title|samples\..*"
    r"|data\.(root|workers|eval_batch_size|checksums)(\..*)?"
    r"|(model\.scale\.\d+\.)?(solver|divergence)\.eval\..*"
    r"|train\.(stage\.\d+\.)?(max_steps|max_minutes|epochs|learning_rate|warmup_steps|schedule)"
    r"|train\.(weight_decay|clip|validate_every|validate_every_steps|on_nonfinite|accumulate)"
    r"|train\.(checkpoint_every_steps|checkpoint_every_minutes|governor\..*)"
    r"|train\.(devices|nodes|accelerator|strategy|precision|threads|micro_batch)"
    r"|train\.(logger\..*|callbacks)"
)
"""Keys that a training may be gone on with otherwise; all else makes it another training."""

_MEASURED = ("seed", "data", "model", "solver", "divergence", "regularizers")


class Change(NamedTuple):
    """A key of the recipe that is not as it was."""

    key: str
    before: Any
    now: Any

    @property
    def makes_another_training(self) -> bool:
        """Whether weights that were trained before cannot be trained on with it."""
        return not _MAY_CHANGE.fullmatch(self.key)

    @property
    def is_measured(self) -> bool:
        """Whether figures of the trained flow depend on it."""
        return self.key.split(".")[0] in _MEASURED

    def __str__(self) -> str:
        """The change in words."""
        return f"{self.key} = {_words(self.now)}, before: {_words(self.before)}"


def changes_in(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return what differs between two recipes, given as tables.

    Example:
        >>> print(*changes_in({"train": {"epochs": 5}}, {"train": {"max_steps": 9}}), sep="; ")
        train.epochs = absent, before: 5; train.max_steps = 9, before: absent
    """
    flat = [dict(leaves(table)) for table in (before, now)]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    pairs = (Change(key, flat[0].get(key), flat[1].get(key)) for key in keys)
    return [change for change in pairs if change.before != change.now]


def step_size(table: Mapping[str, Any]) -> int | None:
    """Samples in an optimizer step by a recipe's table; ``None`` where the devices are not told.

    Example:
        >>> step_size({"data": {"batch_size": 32}, "train": {"devices": 2, "accumulate": 2}})
        128
    """
    train, size = table.get("train", {}), table["data"].get("batch_size")
    parts = [size, *(train.get(key, 1) for key in ("devices", "nodes", "accumulate"))]
    return math.prod(parts) if all(isinstance(part, int) for part in parts) else None


def table_of(toml: str) -> dict[str, Any]:
    """A recipe's table, completed by the defaults that it does not say."""
    table = tomllib.loads(toml)
    try:
        return Recipe.model_validate(table).model_dump(exclude_none=True)
    except ValidationError:  # of a version that knew other keys
        return table


def leaves(table: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return the values of a recipe's table, each with its dotted key."""
    if isinstance(table, Mapping):
        parts = list(table.items())
    elif isinstance(table, list | tuple) and any(isinstance(item, Mapping) for item in table):
        parts = list(enumerate(table))
    else:
        return [(path, list(table) if isinstance(table, tuple) else table)]
    return [leaf for key, value in parts for leaf in leaves(value, f"{path}.{key}".lstrip("."))]


def _words(value: Any) -> str:
    return "absent" if value is None else str(value)
