"""Where a search looks: a range or choices for each key."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.load import load_recipe, recipe_from_toml, recipe_to_toml
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.changes import leaves
from rnode_dyn.runs.grid import parse_grid


@dataclass(frozen=True)
class Space:
    """The values of a key that a search may choose from.

    Attributes:
        key: The dotted key.
        low: The least of a range.
        high: The most; whole numbers where both are.
        choices: Overrides to choose from instead.
    """

    key: str
    low: float = math.nan
    high: float = math.nan
    choices: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[str, ...]:
        """The overrides that have to be right for all others to be."""
        return self.choices or (self.override(self.low), self.override(self.high))

    def override(self, value: Any) -> str:
        """Return what a recipe is given for a value: a number, or one of the choices."""
        return value if self.choices else f"{self.key}={value!r}"

    def value_in(self, recipe: Recipe) -> Any:
        """Return the value that a recipe has, as a search knows it; ``None`` where it has none."""
        given = dict(leaves(recipe.model_dump(exclude_none=True))).get(self.key)
        if not self.choices:
            inside = isinstance(given, int | float) and self.low <= given <= self.high
            return given if inside else None
        made = {choice: _value_of(recipe, choice, self.key) for choice in self.choices}
        return next((choice for choice, value in made.items() if value == given), None)


def parse_space(text: str) -> Space:
    """Return the space that one ``--search KEY=LOW..HIGH`` or ``KEY=VALUE,VALUE`` says.

    Raises:
        RecipeError: if it is neither.

    Example:
        >>> parse_space("train.learning_rate=1e-4..1e-2").high
        0.01
        >>> parse_space("solver.algorithm=rk4,dopri5").choices
        ('solver.algorithm=rk4', 'solver.algorithm=dopri5')
    """
    key, _, values = text.partition("=")
    low, dots, high = values.partition("..")
    if not dots:
        return Space(key.strip(), choices=tuple(parse_grid(text)))
    ends = [_number(low), _number(high)]
    if None in ends or not ends[0] < ends[1] or not key.strip():  # type: ignore[operator]
        allowed = "KEY=LOW..HIGH with two numbers, the lower first, or KEY=VALUE,VALUE"
        raise RecipeError(Problem(f"--search {text}", reason="not a space", allowed=allowed))
    return Space(key.strip(), *ends)  # type: ignore[arg-type]


def check_spaces(recipe: str | Path, spaces: Sequence[Space], overrides: Sequence[str]) -> Recipe:
    """Return the recipe, once the ends of all spaces are seen to be allowed.

    Raises:
        RecipeError: if a key is unknown or given twice, or an end is not allowed.
    """
    keys = [space.key for space in spaces]
    repeated = next((key for key in keys if keys.count(key) > 1), None)
    if repeated is not None:
        raise RecipeError(Problem(f"--search {repeated}", reason="this key is given twice"))
    for space in spaces:
        for end in space.ends:
            load_recipe(recipe, [*overrides, end])
    return load_recipe(recipe, overrides)


def chosen(spaces: Iterable[Space], values: Mapping[str, Any]) -> list[str]:
    """Return the overrides of a trial by its values."""
    return [space.override(values[space.key]) for space in spaces]


def _value_of(recipe: Recipe, override: str, key: str) -> Any:
    made = recipe_from_toml(recipe_to_toml(recipe), "recipe", [override])
    return dict(leaves(made.model_dump(exclude_none=True))).get(key)


def _number(text: str) -> float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
