"""A search: runs whose values Optuna chooses by what the runs before have come to."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rnode_dyn.recipe.errors import Problem, RecipeError
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.running.sweep import SweepResult, Swept, check_is_of_the_sweep, compared, run_member
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.find import RUNS
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.grid import Member
from rnode_dyn.runs.record import read_record
from rnode_dyn.runs.space import Space, check_spaces, chosen, parse_space

if TYPE_CHECKING:
    import optuna

_INSTALL = "python -m pip install 'rnode-dyn[search]'"


def search(
    recipe: str | Path,
    spaces: Sequence[str],
    trials: int,
    *,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    console: Console | None = None,
) -> SweepResult:
    """Run a recipe so many times, each with values that the runs before speak for.

    What is made small is the best held-out bits per dimension of the validation split. Optuna
    chooses, by its tree-structured Parzen estimator. A range is searched on a logarithmic scale
    where its lower end is above 0. Called again it goes on: runs that are finished are kept.

    Args:
        recipe: A recipe's file or name.
        spaces: Keys with a range, such as ``"train.learning_rate=1e-4..1e-2"``, or with choices.
        trials: How many runs there are to be in all.
        overrides: What all runs have otherwise than the recipe.
        output: The folder of the runs; left out, ``runs/NAME-search``.
        console: Where progress is shown; nothing is, when left out.

    Raises:
        RecipeError: if Optuna is not installed, a key is unknown, or an end is not allowed, before
            anything runs.
        RunError: if a folder has a run of another recipe or space, likewise.
    """
    where_to_look = [parse_space(text) for text in spaces]
    first = check_spaces(recipe, where_to_look, overrides)
    check_can_search(first)
    where = RUNS / f"{first.name}-search" if output is None else Path(output)
    begun = [(recipe, overrides, where_to_look, RunFolder(where / _name(n))) for n in range(trials)]
    for each in begun:
        if each[-1].recipe.is_file():
            _member_there(*each)
    shown = Console(quiet=True) if console is None else console
    return compared(where, tuple(_run_trials(_study(), begun, first.seed, shown)))


def check_can_search(recipe: Recipe) -> None:
    """Refuse a search without Optuna, or without held-out data to choose by.

    Raises:
        RecipeError: which says what to do instead.
    """
    if find_spec("optuna") is None:
        raise RecipeError(Problem("--search", reason=f"optuna is not installed: {_INSTALL}"))
    if recipe.data.validation_size == 0:
        reason = "a search chooses by held-out data, and there are none: say 1 or more"
        raise RecipeError(Problem(f"recipe {recipe.name}", "data.validation_size", reason, "0"))


_Trial = tuple[str | Path, Sequence[str], Sequence[Space], RunFolder]


def _run_trials(
    study: "optuna.Study", begun: Sequence[_Trial], seed: int, console: Console
) -> Iterator[Swept]:
    for number, trial in enumerate(begun):
        recipe, overrides, spaces, folder = trial
        study.sampler = _sampler(seed + number)
        distributions = {space.key: _distribution(space) for space in spaces}
        if folder.recipe.is_file():
            member, values = _member_there(*trial)
            study.enqueue_trial(values)
            asked = study.ask(distributions)
        else:
            asked = study.ask(distributions)
            said = chosen(spaces, asked.params)
            made = load_recipe(recipe, [*overrides, *said])
            member = Member(folder.path.name, made, tuple(said))
        swept = run_member(f"{number + 1}/{len(begun)}", member, folder, console)
        _tell(study, asked, swept)
        yield swept


def _tell(study: "optuna.Study", asked: "optuna.Trial", swept: Swept) -> None:
    from optuna.trial import TrialState

    best = read_record(swept.folder).best
    if swept.failed is not None or best is None:
        study.tell(asked, state=TrialState.FAIL)
    else:
        study.tell(asked, best.bits)


def _member_there(
    recipe: str | Path, overrides: Sequence[str], spaces: Sequence[Space], folder: RunFolder
) -> tuple[Member, dict[str, Any]]:
    """Return a trial that has been begun before, and its values."""
    there = load_recipe(folder.recipe)
    values = {space.key: space.value_in(there) for space in spaces}
    outside = next((key for key, value in values.items() if value is None), None)
    if outside is not None:
        raise RunError(
            f"{folder.path} has a run whose {outside} is not one that is searched: give another "
            "--output."
        )
    said = chosen(spaces, values)
    member = Member(folder.path.name, load_recipe(recipe, [*overrides, *said]), tuple(said))
    check_is_of_the_sweep(member, folder)
    return member, values


def _study() -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study()


def _sampler(seed: int) -> "optuna.samplers.BaseSampler":
    """Return one for a single trial, so that what it chooses depends on those before it alone.

    A search that goes on then chooses as if it had never been left.
    """
    import optuna

    return optuna.samplers.TPESampler(seed=seed % 2**32)


def _distribution(space: Space) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if space.choices:
        return CategoricalDistribution(space.choices)
    kind = IntDistribution if space.is_whole else FloatDistribution
    return kind(space.low, space.high, log=space.low > 0)  # type: ignore[arg-type]


def _name(number: int) -> str:
    return f"trial-{number:03}"
