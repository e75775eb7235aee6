"""The page on recipes says what the schema says, key by key."""

import re
import tomllib
from pathlib import Path

import pytest

from rnode_dyn.recipe import model, schema
from rnode_dyn.recipe.describe import allowed_at
from rnode_dyn.recipe.keys import spot_of, table_at
from rnode_dyn.recipe.schema import Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS = {
    "Top level": schema.Recipe,
    "`[data]`": schema.DataRecipe,
    "`[model]`": schema.ModelRecipe,
    "`[model.condition]`": model.ConditionRecipe,
    "`[[model.scale]]`": schema.ScaleRecipe,
    "`[model.field]`": schema.FieldRecipe,
    "`[solver]`": schema.SolverRecipe,
    "`[solver.quadrature]`": schema.QuadratureRecipe,
    "`[divergence]`": schema.DivergenceRecipe,
    "`[regularizers]`": schema.RegularizersRecipe,
    "`[train]`": schema.TrainRecipe,
    "`[[train.stage]]`": schema.StageRecipe,
    "`[train.governor]`": schema.GovernorRecipe,
    "`[samples]`": schema.SamplesRecipe,
}
CONDITIONAL = {"step"}
"""Keys whose default depends on others although the schema states a plain one."""


def rows_in(title: str) -> list[list[str]]:
    """The cells of a section's table, heading left out."""
    section = re.split(rf"^##+ {re.escape(title)}$", PAGE, flags=re.MULTILINE)[1]
    own = re.split(r"^##+ ", section, flags=re.MULTILINE)[0]
    lines = [line for line in own.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def default_of(field) -> str | None:
    """The default as the page shows it; None where it depends on other keys."""
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return None
    if field.default is None:
        return "absent"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f'`"{value}"`' if isinstance(value, str) else f"`{shown}`"


@pytest.mark.parametrize(("title", "table"), SECTIONS.items())
def test_every_key_is_documented_as_it_is(title, table):
    rows = {row[0].strip("`"): row[1:] for row in rows_in(title)}
    expected = {}
    for name, field in table.model_fields.items():
        spot = spot_of(field.annotation, tuple(field.metadata))
        if table_at(spot) is None and name not in ("scale", "stage"):
            default = None if name in CONDITIONAL else default_of(field)
            expected[name] = [allowed_at(spot), default or rows[name][1], field.description]
    assert rows == expected


@pytest.mark.parametrize("text", re.findall(r"```toml\n(name.*?)```", PAGE, flags=re.DOTALL))
def test_every_example_is_a_right_recipe(text):
    assert Recipe.model_validate(tomllib.loads(text)).name
