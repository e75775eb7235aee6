"""The run folder: what lies where; reading what it weighs takes torch, and stands elsewhere."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rnode_dyn.recipe.load import recipe_to_toml
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.durable import write_text
from rnode_dyn.runs.errors import RunError

_HISTORY = "# history:"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.expanduser(self.path)))

    @property
    def recipe(self) -> Path:
        """The resolved recipe: running it again repeats the run."""
        return self.path / "recipe.toml"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``last.ckpt`` and ``best.ckpt``."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The newest weights, with all that resuming needs."""
        return self.checkpoints / "last.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The weights before the newest, until the run has ended."""
        return self.checkpoints / "previous.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        """The weights with the best held-out bits per dimension."""
        return self.checkpoints / "best.ckpt"

    def stage_checkpoint(self, number: int) -> Path:
        """The weights at the end of a stage that others follow."""
        return self.checkpoints / f"stage-{number}.ckpt"

    @property
    def samples(self) -> Path:
        """Folder of pictures."""
        return self.path / "samples"

    @property
    def summary(self) -> Path:
        """The run's figures, as JSON."""
        return self.path / "summary.json"

    @property
    def metrics(self) -> Path:
        """The training's figures, step by step."""
        return self.path / "metrics.csv"

    @property
    def lock(self) -> Path:
        """Who is at work in the folder."""
        return self.path / ".lock"

    @property
    def rooms(self) -> tuple[Path, ...]:
        """The folders that files are written into."""
        return self.path, self.checkpoints, self.samples

    def make_rooms(self) -> None:
        """Make the folders that are not there yet."""
        for room in self.rooms:
            room.mkdir(parents=True, exist_ok=True)

    def check_is_free(self) -> None:
        """Raise where a new run has no place.

        What a run leaves that was killed before it wrote its recipe is in nobody's way.

        Raises:
            RunError: if something is there already.
        """
        if self.path.is_dir() and all(_is_of_no_run(path) for path in self.path.iterdir()):
            return
        if self.path.exists() or self.path.is_symlink():
            raise RunError(
                f"{self.path} exists already and is not empty: give another --output, or go on "
                f"with that run by --resume {self.path}."
            )

    def create(self, recipe: Recipe) -> None:
        """Make the folder and write the resolved recipe.

        Raises:
            RunError: if something is there already.
        """
        self.check_is_free()
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe, recipe_to_toml(recipe))
        self.make_rooms()

    def change_recipe(self, recipe: Recipe, changes: Sequence[object]) -> None:
        """Write a run's recipe anew, behind comments that tell what has been changed in it, when.

        Args:
            recipe: The recipe from here on.
            changes: What has changed, in words.
        """
        lines = self.recipe.read_text(encoding="utf-8", errors="replace").splitlines()
        history = [line for line in lines if line.startswith(_HISTORY)]
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        history += [f"{_HISTORY} {now}: {change}" for change in changes]
        write_text(self.recipe, "\n".join([*history, recipe_to_toml(recipe)]))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the run's figures."""
        write_text(self.summary, json.dumps(summary, indent=2) + "\n")

    def checkpoint(self, name: str | None = None) -> Path:
        """Return a checkpoint.

        Args:
            name: ``best``, ``last``, or ``stage-0`` for the weights at the end of the first of
                several stages; left out, the best, or the last where none is best yet.

        Raises:
            RunError: if the folder is no run, has no checkpoint yet, or none of that name.
        """
        self.check_is_run()
        there = {path.stem: path for path in sorted(self.checkpoints.glob("*.ckpt"))}
        if not there:
            raise RunError(
                f"{self.path} has no checkpoint yet: let it train for one epoch at least."
            )
        wanted = name or ("best" if "best" in there else "last")
        if wanted not in there:
            raise RunError(f"{self.path} has no checkpoint {wanted!r}, but {', '.join(there)}.")
        return there[wanted]

    def check_is_run(self) -> None:
        """Raise where no run has been.

        Raises:
            RunError: if the folder has no recipe.
        """
        if not self.recipe.is_file():
            raise RunError(
                f"{self.path} is no run folder: it has no recipe.toml. Give the folder that "
                "`rnode-dyn run` printed."
            )


def _is_of_no_run(path: Path) -> bool:
    """Whether a file lies in a folder before a run has begun there: a lock, or a part of one."""
    return path.name == ".lock" or (path.name.startswith(".") and path.suffix == ".part")
