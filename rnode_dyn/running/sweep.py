"""A sweep: a recipe's runs over a grid of values and seeds, one after another, and compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.report.compare import write_comparison
from rnode_dyn.report.html import write_report
from rnode_dyn.running.runner import resume, run
from rnode_dyn.runs.changes import changes_in
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.find import RUNS
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.grid import Member, members
from rnode_dyn.runs.record import RunRecord, read_record
from rnode_dyn.training.loop.errors import DivergedError


@dataclass(frozen=True)
class Swept:
    """A run of a sweep, and how it came to its figures.

    Attributes:
        member: What was asked for.
        folder: Where it lies.
        kept: Whether it had been finished before.
        failed: Why it has no figures, in a sentence; ``None`` where it has.
    """

    member: Member
    folder: RunFolder
    kept: bool = False
    failed: str | None = None


@dataclass(frozen=True)
class SweepResult:
    """A sweep that has come to its end.

    Attributes:
        folder: Where its runs lie.
        runs: The runs, in the order of the grid.
        report: The page that compares them; ``None`` for a single run.
    """

    folder: Path
    runs: tuple[Swept, ...]
    report: Path | None

    @property
    def records(self) -> list[RunRecord]:
        """What the folders of the runs say."""
        return [read_record(one.folder) for one in self.runs]


def sweep(
    recipe: str | Path,
    grid: Sequence[str] = (),
    seeds: int = 1,
    *,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    console: Console | None = None,
) -> SweepResult:
    """Run a recipe for every combination of a grid's values, and for several seeds.

    Called again it goes on: runs that are finished are kept, one that was interrupted is taken up.

    Args:
        recipe: A recipe's file or name.
        grid: Keys with their values, such as ``"regularizers.kinetic_energy=0,0.01,0.1"``.
        seeds: How many seeds, from the recipe's own on.
        overrides: What all runs have otherwise than the recipe, such as ``"train.epochs=5"``.
        output: The folder of the runs; left out, ``runs/NAME-sweep``.
        console: Where progress is shown; nothing is, when left out.

    Raises:
        RecipeError: if a key is unknown or a value is not allowed, before anything runs.
        RunError: if a folder has a run of another recipe, likewise.
    """
    asked = members(recipe, grid, seeds, overrides)
    where = RUNS / f"{asked[0].recipe.name}-sweep" if output is None else Path(output)
    folders = [RunFolder(where / member.name) for member in asked]
    for member, folder in zip(asked, folders, strict=True):
        check_is_of_the_sweep(member, folder)
    shown = Console(quiet=True) if console is None else console
    count = len(asked)
    return compared(
        where,
        tuple(
            run_member(f"{number + 1}/{count}", member, folder, shown)
            for number, (member, folder) in enumerate(zip(asked, folders, strict=True))
        ),
    )


def compared(folder: Path, runs: tuple[Swept, ...]) -> SweepResult:
    """Return the result of runs that have ended, with the page that compares them."""
    there = [read_record(one.folder) for one in runs if one.folder.recipe.is_file()]
    report = write_comparison(there, folder / "report.html") if len(there) > 1 else None
    return SweepResult(folder, runs, report)


def run_member(head: str, member: Member, folder: RunFolder, console: Console) -> Swept:
    """Run a member, take it up where it was interrupted, or keep it where it is finished."""
    title = f"{head} {', '.join(member.overrides)}"
    if folder.summary.is_file():
        _say(console, f"{title}: finished before, kept")
        return Swept(member, folder, kept=True)
    _say(console, title)
    return Swept(member, folder, failed=_failure(member, folder, console))


def _failure(member: Member, folder: RunFolder, console: Console) -> str | None:
    """Run or take up a member; a training that breaks down leaves the others to run."""
    begin: Callable[[], object] = (
        (lambda: resume(folder.path, console))
        if folder.recipe.is_file()
        else (lambda: run(member.recipe, folder.path, console=console))
    )
    try:
        begin()
    except (SolverError, DivergedError) as error:
        write_report(folder)
        _say(console, f"failed: {error}")
        return str(error)
    return None


def check_is_of_the_sweep(member: Member, folder: RunFolder) -> None:
    """Refuse a folder that has a run of another recipe than the member's.

    Raises:
        RunError: which says what differs.
    """
    if not folder.recipe.is_file():
        return
    try:
        there = load_recipe(folder.recipe)
    except RecipeError as error:
        raise RunError(f"{folder.path} has a recipe that cannot be read: {error}") from None
    other = changes_in(*(r.model_dump(exclude_none=True) for r in (member.recipe, there)))
    if other:
        raise RunError(
            f"{folder.path} has a run of another recipe: there {other[0].key} is "
            f"{other[0].now}, and {other[0].before} is asked for. Give another --output."
        )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
