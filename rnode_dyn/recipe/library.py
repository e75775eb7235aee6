"""Finds recipe files: by path, or by name among those that ship with the package."""

from collections.abc import Sequence
from os.path import expanduser, isdir, isfile  # pathlib's raise for names that no file can have
from pathlib import Path

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.spelling import nearest_name

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")
"""Where the recipes are in an installed package, and where in a checkout."""


def packaged_recipes() -> dict[str, Path]:
    """The recipes that ship with the package, by name; folders are part of a name."""
    for folder in filter(Path.is_dir, _FOLDERS):
        files = sorted(folder.rglob("*.toml"))
        return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    return {}


def find_recipe(path_or_name: str | Path, extended_by: Path | None = None) -> Path:
    """The recipe file of that path, or else the packaged one of that name.

    Args:
        path_or_name: A path to a `.toml` file, or a name such as `quickstart`.
        extended_by: The file that extends this one; paths are then relative to its folder.

    Raises:
        RecipeError: If there is no such file and no such name.
    """
    beside = extended_by.parent if extended_by else Path()
    as_path, packaged = beside / expanduser(path_or_name), packaged_recipes()
    name = str(path_or_name).removesuffix(".toml")
    if isfile(as_path):
        return as_path
    if name in packaged:
        return packaged[name]
    raise RecipeError(_not_found(as_path, name, extended_by, list(packaged)))


def _not_found(as_path: Path, name: str, extended_by: Path | None, names: Sequence[str]) -> Problem:
    what = "a folder, not a recipe file" if isdir(as_path) else "no such recipe file or name"
    by_last_part = {known.rpartition("/")[2]: known for known in reversed(names)}
    nearest = nearest_name(name, names) or by_last_part.get(
        nearest_name(Path(name).name, by_last_part), ""
    )
    allowed = "a path to a .toml file, or a name that `rnode-dyn recipes` lists"
    if extended_by is None:
        return Problem(str(as_path), "", what, allowed=allowed, suggestion=nearest)
    return Problem(str(extended_by), "extends", what, f"'{name}'", allowed, nearest)
