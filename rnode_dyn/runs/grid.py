"""Which runs a sweep has: every combination of a grid's values, once for each seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe

_SEED = "seed"


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: What its folder is called, within the sweep's.
        recipe: What it runs.
        overrides: What it has from the grid, and its seed.
    """

    name: str
    recipe: Recipe
    overrides: tuple[str, ...]


def parse_grid(text: str) -> list[str]:
    """Return the overrides that one ``--grid KEY=VALUE,VALUE`` says.

    Raises:
        RecipeError: if it has no key or no values.

    Example:
        >>> parse_grid("model.field.hidden=[16],[16,16]")
        ['model.field.hidden=[16]', 'model.field.hidden=[16,16]']
    """
    key, equals, values = text.partition("=")
    several = _split(values)
    if not key.strip() or not equals or not all(several):
        allowed = "a dotted key, = and values, such as regularizers.kinetic_energy=0,0.01,0.1"
        raise RecipeError(Problem(f"--grid {text}", reason="not a grid", allowed=allowed))
    repeated = next((value for value in several if several.count(value) > 1), None)
    if repeated is not None:
        raise RecipeError(Problem(f"--grid {text}", reason=f"{repeated} is given twice"))
    return [f"{key.strip()}={value}" for value in several]


def members(
    recipe: str | Path, grid: Iterable[str], seeds: int = 1, overrides: Sequence[str] = ()
) -> list[Member]:
    """Return the runs of a sweep, each with its recipe: all that is wrong shows here.

    Args:
        recipe: A recipe's file or name.
        grid: Texts as :func:`parse_grid` reads them, of a key each.
        seeds: How many seeds, from the recipe's own on.
        overrides: What all runs have otherwise than the recipe.

    Raises:
        RecipeError: if a key is unknown or given twice, or a value is not allowed.

    Example:
        >>> [m.name for m in members("moons", ["regularizers.kinetic_energy=0,0.1"], seeds=2)][:2]
        ['kinetic_energy=0-seed=42', 'kinetic_energy=0-seed=43']
    """
    axes = [parse_grid(text) for text in grid]
    keys = [axis[0].partition("=")[0] for axis in axes]
    _check_said_once(keys, seeds)
    first = load_recipe(recipe, overrides).seed
    axes += [[f"{_SEED}={first + number}" for number in range(seeds)]] * (_SEED not in keys)
    shown = _short([axis[0].partition("=")[0] for axis in axes])
    return [_member(recipe, overrides, chosen, shown) for chosen in product(*axes)]


def _member(
    recipe: str | Path, overrides: Sequence[str], chosen: tuple[str, ...], shown: list[str]
) -> Member:
    try:
        made = load_recipe(recipe, [*overrides, *chosen])
    except RecipeError as error:
        raise RecipeError(*(_of_the_grid(p, chosen) for p in error.problems)) from None
    values = [text.partition("=")[2] for text in chosen]
    name = "-".join(f"{key}={value}" for key, value in zip(shown, values, strict=True))
    safe = "".join(c if c.isalnum() or c in "=-_.,+" else "_" for c in name)
    return Member(safe, made, chosen)


def _of_the_grid(problem: Problem, chosen: Iterable[str]) -> Problem:
    """Name ``--grid`` where what is wrong has been said by it."""
    said = next((text for text in chosen if problem.file == f"--set {text}"), None)
    return problem if said is None else replace(problem, file=f"--grid {said}")


def _check_said_once(keys: Sequence[str], seeds: int) -> None:
    repeated = next((key for key in keys if keys.count(key) > 1), None)
    if repeated is not None:
        raise RecipeError(
            Problem(f"--grid {repeated}", reason="two grids have this key: join them")
        )
    if _SEED in keys and seeds > 1:
        raise RecipeError(Problem("--grid seed", reason="--seeds says the seeds, too: drop one"))


def _split(values: str) -> list[str]:
    """Split at the commas that are in no list and no text."""
    whole = [""]
    for part in values.split(","):
        whole[-1] += part
        if _is_whole(whole[-1]):
            whole.append("")
        else:
            whole[-1] += ","
    return [text.strip() for text in (whole[:-1] if whole[-1] == "" else whole)]


def _is_whole(text: str) -> bool:
    return all(text.count(a) == text.count(b) for a, b in ("[]", "{}")) and not text.count('"') % 2


def _short(keys: Sequence[str]) -> list[str]:
    """The last parts of keys, where these tell them apart."""
    ends = [key.rpartition(".")[2] for key in keys]
    return ends if len(set(ends)) == len(ends) else list(keys)
