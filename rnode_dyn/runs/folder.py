"""The run folder: what lies where; reading what it weighs takes torch, and stands elsewhere."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnode_dyn.recipe.load import recipe_to_toml
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.runs.errors import RunError


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

    def create(self, recipe: Recipe) -> None:
        """Make the folder and write the resolved recipe.

        Raises:
            RunError: if something is there already.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunError(
                f"{self.path} exists already and is not empty: give another --output, or go on "
                f"with that run by --resume {self.path}."
            )
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.samples.mkdir(exist_ok=True)
        self.recipe.write_text(recipe_to_toml(recipe), encoding="utf-8")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the run's figures."""
        self.summary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

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
