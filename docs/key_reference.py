"""Writes the reference of a recipe's keys as a page, from the schema itself.

MkDocs takes it as a hook, so that no copy can fall behind. Without MkDocs,
``python docs/key_reference.py`` prints the page.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from rnode_dyn.recipe.describe import allowed_at
from rnode_dyn.recipe.keys import spot_of, table_at
from rnode_dyn.recipe.schema import Recipe, ScaleRecipe
from rnode_dyn.recipe.tables import Table

PAGE = "keys.md"
_OPENING = """---
search:
  boost: 3
---

# Every key

All keys of a recipe, as `--set` writes them: what may stand there, the default, and what it \
means. This page is made from the schema that checks recipes. [The recipe format](recipes.md) \
says how they go together. A 0 within a key is the place in a list, from 0.
"""


class Place(NamedTuple):
    """A table of the schema, and where it stands."""

    path: tuple[str, ...]
    table: type[Table]

    @property
    def heading(self) -> str:
        """How a recipe writes it."""
        if not self.path:
            return "Top level"
        name = ".".join(part for part in self.path if part != "0")
        return f"`[[{name}]]`" if self.path[-1] == "0" else f"`[{name}]`"


def places(table: type[Table] = Recipe, path: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every table of the schema, outer ones first; a scale's own tables are the recipe's."""
    yield Place(path, table)
    for name, field in table.model_fields.items():
        inner, step = _table_in(field)
        if inner is not None and table is not ScaleRecipe:
            yield from places(inner, (*path, name, *step))


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_OPENING, *(_section(place) for place in places())])


def on_files(files: Any, config: Any) -> Any:
    """Add the page to what MkDocs builds."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=page()))
    return files


def _table_in(field: FieldInfo) -> tuple[type[Table] | None, tuple[str, ...]]:
    spot = spot_of(field.annotation)
    if get_origin(spot.kind) is tuple:
        return table_at(spot_of(get_args(spot.kind)[0])), ("0",)
    return table_at(spot), ()


def _section(place: Place) -> str:
    keys = {name: f for name, f in place.table.model_fields.items() if _table_in(f)[0] is None}
    purpose = (place.table.__doc__ or "").split("\n\n")[0].replace("\n    ", " ")
    entries = [_entry(place, name, field) for name, field in keys.items()]
    return "\n".join([f"## {place.heading}\n", f"{purpose}\n", *entries])


def _entry(place: Place, name: str, field: FieldInfo) -> str:
    allowed = allowed_at(spot_of(field.annotation, tuple(field.metadata)))
    meaning = f"{allowed[0].upper()}{allowed[1:]}. {_default(place, name, field)}."
    return f"### {'.'.join((*place.path, name))}\n\n{field.description}\n\n{meaning}\n"


def _default(place: Place, name: str, field: FieldInfo) -> str:
    """What a recipe has that says no more than it must."""
    if field.is_required():
        return "Required"
    value = getattr(_shortest(place), name)
    depends = field.default_factory not in (None, dict) or value != field.get_default(
        call_default_factory=True, validated_data={}
    )
    unless = " unless other keys decide" if depends else ""
    return f"Absent{unless}" if value is None else f"Default: `{_as_toml(value)}`{unless}"


def _shortest(place: Place) -> Any:
    """The table as it is where nothing is said of it."""
    table: Any = Recipe.model_validate({"name": "shortest", "data": {"dataset": "fake"}})
    for part in place.path:
        table = None if part == "0" else getattr(table, part, None)
    return place.table() if table is None else table


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    if isinstance(value, dict):
        return "{}"
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    print(page())
