"""What every table of a recipe has in common: it is frozen, strict and knows its own keys."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Minutes = Annotated[float, Field(gt=0, le=10_000_000)]  # 19 years
NonNegative = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]

MAX_THREADS = 1024
"""Threads of torch: at some number above, it is a segmentation fault."""

_LARGEST = 2**53

RULE = "recipe_rule"
"""The pydantic error type of a rule between keys, as `broken_rule` makes it."""


class Table(BaseModel):
    """A table of a recipe. A string is never read as a number, nor a boolean as one.

    Text that names something has no control characters; a title is shown without them.

    A default that depends on earlier keys asks for them with `get`: a wrong one is not there.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="after")
    def _values_can_be_meant(self) -> Self:
        for key in self.model_fields_set:
            given = getattr(self, key)
            if key != "title" and isinstance(given, str) and not given.isprintable():
                raise broken_rule(key, "text has no control characters: leave them out", given)
            if isinstance(given, int) and given > _LARGEST:
                raise broken_rule(key, f"no number above {_LARGEST} can be meant", given)
        return self


def broken_rule(
    key: str, reason: str, given: Any = None, suggestion: str = ""
) -> PydanticCustomError:
    """The error of a table whose keys are right one by one and wrong together.

    Args:
        key: The key to change, dotted and relative to what states the rule: a table, or the key
            itself, for which it is empty.
        reason: What is wrong and what mends it, as the user will read it.
        given: The value that was given under `key`, if one was.
        suggestion: The nearest right value, if one is near.
    """
    context = {"key": key, "reason": reason, "given": given, "suggestion": suggestion}
    return PydanticCustomError(RULE, "{key}: {reason}", context)
