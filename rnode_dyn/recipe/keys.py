"""Finds the keys of the schema: what stands at a path, and every path there is."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from rnode_dyn.recipe.scales import Path
from rnode_dyn.recipe.tables import Table


class Spot(NamedTuple):
    """A place in the schema: what may stand there, and within which bounds."""

    kind: Any
    """The Python type, `None` and bounds taken off."""

    bounds: tuple[Any, ...] = ()
    """Objects with some of `ge`, `gt`, `le`, `lt` and `min_length`."""


def spot_of(annotation: Any, bounds: tuple[Any, ...] = ()) -> Spot:
    """The place that `annotation` makes, its `None` and `Annotated` taken off."""
    if get_origin(annotation) is Annotated:
        kind, *notes = get_args(annotation)
        return spot_of(kind, bounds + tuple(_bounds_in(notes)))
    kinds = without_none(annotation)
    if len(kinds) == 1 and kinds[0] is not annotation:
        return spot_of(kinds[0], bounds)
    return Spot(annotation, bounds)


def without_none(annotation: Any) -> tuple[Any, ...]:
    """The members of a union but `None`; of any other type, the type alone."""
    is_plain = get_origin(annotation) in (None, tuple, dict, Literal, Annotated)
    members = (annotation,) if is_plain else get_args(annotation)
    return tuple(kind for kind in members if kind is not type(None))


def enter(spot: Spot, part: str | int) -> Spot | None:
    """The place under key or index `part` of `spot`, if there is one."""
    table = table_at(spot)
    if table is not None and part in table.model_fields:
        field = table.model_fields[str(part)]
        return spot_of(field.annotation, tuple(field.metadata))
    if isinstance(part, int) and get_origin(spot.kind) is tuple:
        return spot_of(get_args(spot.kind)[0])
    if get_origin(spot.kind) is dict:
        return spot_of(get_args(spot.kind)[1])
    return None


def follow(root: type[Table], path: Path) -> tuple[Path, Spot]:
    """The longest start of `path` that the schema knows, and the place it leads to."""
    spot = Spot(root)
    for depth, part in enumerate(path):
        inner = enter(spot, part)
        if inner is None:
            return path[:depth], spot
        spot = inner
    return path, spot


def table_at(spot: Spot) -> type[Table] | None:
    """The table that stands at `spot`, if it is one."""
    is_table = isinstance(spot.kind, type) and issubclass(spot.kind, Table)
    return spot.kind if is_table else None


def keys_below(table: type[Table], start: Path = ()) -> Iterator[Path]:
    """Every key of `table` and of the tables in it, nearest first; lists are not entered.

    Args:
        table: The table to walk.
        start: Where the table itself stands.

    Example:
        >>> from rnode_dyn.recipe.schema import FieldRecipe
        >>> list(keys_below(FieldRecipe, ("model", "field")))[0]
        ('model', 'field', 'kind')
    """
    level: list[tuple[Path, type[Table]]] = [(start, table)]
    while level:
        paths = [((*path, name), inner) for path, owner in level for name, inner in _rows(owner)]
        yield from (path for path, _ in paths)
        level = [(path, inner) for path, inner in paths if inner is not None]


def _rows(table: type[Table]) -> Iterator[tuple[str, type[Table] | None]]:
    for name, field in table.model_fields.items():
        yield name, table_at(spot_of(field.annotation))


def _bounds_in(notes: list[Any]) -> Iterator[Any]:
    for note in notes:
        yield from note.metadata if isinstance(note, FieldInfo) else (note,)
