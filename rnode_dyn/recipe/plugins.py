"""Tables that name a class and give it keys of its own: an optimizer, a logger."""

import re
from typing import Any, Self

from pydantic import ConfigDict, model_validator

from rnode_dyn.recipe.names import OPTIMIZERS, LoggerKind
from rnode_dyn.recipe.spelling import nearest_value
from rnode_dyn.recipe.tables import Table, Text, broken_rule

CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""How a class that can be imported is written: `package.module:Class`."""


class Named(Table):
    """A table with keys beside those that are listed here; text alone is its first key."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _text_is_the_first_key(cls, given: Any) -> Any:
        return {next(iter(cls.model_fields)): given} if isinstance(given, str) else given

    @property
    def keys(self) -> dict[str, Any]:
        """What the class is given beside what a run gives it."""
        return dict(self.model_extra or {})


class OptimizerRecipe(Named):
    """What steps; all keys but `name` are the class's own.

    Example:
        >>> OptimizerRecipe.model_validate({"name": "sgd", "momentum": 0.9}).keys
        {'momentum': 0.9}
    """

    name: Text
    """One of torch's, such as `sgd`, or a class that can be imported: `package.module:Class`."""

    @model_validator(mode="after")
    def _name_is_known(self) -> Self:
        if ":" in self.name:
            check_class("name", self.name)
        elif self.name not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            reason = f"no such optimizer: there are {known}, or a class as package.module:Class"
            nearest = nearest_value(self.name, OPTIMIZERS)
            raise broken_rule("name", reason, self.name, nearest)
        return self

    @model_validator(mode="after")
    def _rate_is_the_trainings(self) -> Self:
        for key in ("lr", "params"):
            if key in self.keys:
                mend = "drop it" if key == "params" else "say train.learning_rate"
                raise broken_rule(key, f"the training gives it: {mend}", self.keys[key])
        return self


class LoggerRecipe(Named):
    """Where the figures go beside `metrics.csv`; all keys but `kind` are Lightning's logger's."""

    kind: LoggerKind
    """`csv` for `metrics.csv` alone, or what has to be installed for it: see the extras."""


def check_class(key: str, given: str) -> None:
    """Refuse what is not written as a class that can be imported."""
    if not CLASS.fullmatch(given):
        raise broken_rule(key, "write package.module:Class", given)
