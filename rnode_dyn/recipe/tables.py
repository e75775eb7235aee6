"""What every table of a recipe has in common: it is frozen, strict and knows its own keys."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Minutes = Annotated[float, Field(gt=0, le=10_000_000)]  # 19 years
NonNegative = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]

MAX_THREADS = 1024
"""Threads of torch: at some number above, it is a segmentation fault."""

RULE = "recipe_rule"
"""The pydantic error type of a rule between keys, as `broken_rule` makes it."""


class Table(BaseModel):
    """A table of a recipe. A string is never read as a number, nor a boolean as one.

    A default that depends on earlier keys asks for them with `get`: a wrong one is not there.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def broken_rule(key: str, reason: str, given: Any = None) -> PydanticCustomError:
    """The error of a table whose keys are right one by one and wrong together.

    Args:
        key: The key to change, dotted and relative to the table that states the rule.
        reason: What is wrong and what mends it, as the user will read it.
        given: The value that was given under `key`, if one was.
    """
    context = {"key": key, "reason": reason, "given": given}
    return PydanticCustomError(RULE, "{key}: {reason}", context)
