"""Finding a run folder: by its path, or by its recipe's name the newest."""

import re
from pathlib import Path

from rnode_dyn.recipe.library import packaged_recipes
from rnode_dyn.recipe.read import read_toml
from rnode_dyn.runs.folder import RunFolder

RUNS = Path("runs")
"""Where runs lie that nobody has given another place."""

_STAMP = re.compile(r"\d{8}-\d{6}")


def find_run(path_or_name: str | Path) -> RunFolder:
    """Return the run at a path, or else the newest run of the recipe of that name.

    Args:
        path_or_name: A run folder; or a bare name such as ``moons`` or ``ablation/none``, whose
            runs are looked for under ``runs``.

    Raises:
        RunError: if there is neither.

    Example:
        >>> find_run("nowhere")
        Traceback (most recent call last):
        rnode_dyn.runs.errors.RunError: nowhere is no run folder: it has no recipe.toml. ...
    """
    there = RunFolder(Path(path_or_name))
    newest = None if there.path.exists() else _newest(str(path_or_name))
    found = there if newest is None else RunFolder(newest)
    found.check_is_run()
    return found


def _newest(recipe: str) -> Path | None:
    """The newest folder of a recipe's runs, told by the time in their names."""
    name, folders = _name_in_recipe(recipe), RUNS.iterdir() if RUNS.is_dir() else ()
    stamped = (path for path in folders if (path / "recipe.toml").is_file())
    runs = [path for path in stamped if _STAMP.fullmatch(path.name.removeprefix(f"{name}-"))]
    return max(runs, key=lambda path: path.name, default=None)


def _name_in_recipe(recipe: str) -> str:
    """What a packaged recipe calls itself, which its runs are named after."""
    packaged = packaged_recipes().get(recipe.removesuffix(".toml"))
    return recipe if packaged is None else str(read_toml(packaged).get("name", recipe))
