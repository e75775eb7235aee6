"""The run folder: what lies where, and how a run is read back."""

import json
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import build_model
from rnode_dyn.recipe.load import load_recipe, recipe_to_toml
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.training.layout import lay_out


class RunError(ValueError):
    """A run folder that cannot be used, and why."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    path: Path

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

    def load(
        self, name: str | None = None, overrides: Iterable[str] = ()
    ) -> tuple[Recipe, MultiscaleFlow]:
        """Return the run's recipe and its trained flow, in evaluation mode, on the CPU.

        Args:
            name: Which weights, as for :meth:`checkpoint`.
            overrides: Keys of the recipe and other values for them, such as
                ``solver.eval.rtol=1e-7``.
        """
        checkpoint = self.checkpoint(name)
        recipe = load_recipe(self.recipe, overrides)
        model = build_model(recipe)
        state = read_checkpoint(checkpoint)["state_dict"]
        prefix = "model."
        weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RunError(
                f"the weights in {checkpoint} do not fit the model of {self.recipe}: has the "
                "recipe been changed since?"
            ) from error
        lay_out(model, torch.device("cpu"))
        return recipe, model.eval()

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

    def check_resumable(self) -> None:
        """Raise where there is nothing to go on from.

        Raises:
            RunError: if the folder is no run, or has no sound ``last.ckpt``.
        """
        self.checkpoint()
        if not self.last_checkpoint.is_file():
            raise RunError(f"{self.path} has no last.ckpt to go on from.")
        read_checkpoint(self.last_checkpoint)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU.

    Raises:
        RunError: if it is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(f"{path} cannot be read as a checkpoint: it is damaged.") from error
