"""What a shell offers after Tab: recipes, keys after --set, run folders."""

from glob import escape, glob
from pathlib import Path


def complete_recipe(incomplete: str) -> list[str]:
    """Names of the packaged recipes, and recipe files.

    Example:
        >>> complete_recipe("mnist14-f")
        ['mnist14-ffjord']
    """
    from rnode_dyn.recipe.library import packaged_recipes

    names = [name for name in packaged_recipes() if name.startswith(incomplete)]
    return [*names, *sorted(glob(f"{escape(incomplete)}*.toml"))]


def complete_override(incomplete: str) -> list[str]:
    """Keys of a recipe, each with its equals sign.

    Example:
        >>> complete_override("train.learning")
        ['train.learning_rate=']
    """
    from rnode_dyn.recipe.keys import follow, keys_below, table_at
    from rnode_dyn.recipe.schema import Recipe

    keys = [path for path in keys_below(Recipe) if table_at(follow(Recipe, path)[1]) is None]
    return [key for path in keys if (key := f"{'.'.join(map(str, path))}=").startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Run folders: those that begin as typed, and those under runs."""
    typed = [*glob(f"{escape(incomplete)}*/recipe.toml"), *glob("runs/*/recipe.toml")]
    folders = {str(Path(path).parent) for path in typed}
    return sorted(folder for folder in folders if folder.startswith(incomplete))
