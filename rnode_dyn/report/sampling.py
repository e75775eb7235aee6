"""What drawing from a trained flow makes: panels of images, a strip, or a file of vectors."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.data.errors import MissingDataError
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.build import load_splits
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.beside import real_beside
from rnode_dyn.report.given import row_length
from rnode_dyn.report.grids import draw_panels, draw_samples, save_panels
from rnode_dyn.report.plane import draw_points
from rnode_dyn.report.strip import draw_strip


@dataclass(frozen=True)
class Drawing(ABC):
    """A file of samples.

    Attributes:
        count: How many samples, at each temperature.
        temperatures: Standard deviations of the noise that they start from.
        condition: What all of them are conditional on: a label, or numbers; left out, of labels
            each in turn.
        guidance: How far they go beyond their class; left out, as far as the data do.
    """

    count: int
    temperatures: tuple[float, ...]
    condition: int | tuple[float, ...] | None = None
    guidance: float | None = None
    prefix: ClassVar[str] = "samples"
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg")

    @property
    def file_name(self) -> str:
        """A name that tells one drawing from another."""
        temperatures = "-".join(f"t{temperature:g}" for temperature in self.temperatures)
        return f"{self.prefix}-{self.count}-{self._given}{temperatures}{self.suffixes[0]}"

    @property
    def _given(self) -> str:
        guided = "" if self.guidance is None else f"guided-{self.guidance:g}-"
        if self.condition is None:
            return guided
        numbers = (self.condition,) if isinstance(self.condition, int) else self.condition
        return f"given-{'-'.join(f'{number:g}' for number in numbers)}-{guided}"

    @property
    def _as_tensor(self) -> Tensor | None:
        return None if self.condition is None else torch.tensor(self.condition)

    def picture_beside(self, path: Path, event: Event) -> Path | None:
        """A picture that is written beside the file, where it is none itself."""
        return None

    @abstractmethod
    def draw(
        self, recipe: Recipe, model: MultiscaleFlow, event: Event, seed: int, path: Path
    ) -> list[str]:
        """Draw and write; return what a person should know of it."""


class Panels(Drawing):
    """Grids of images, one for each temperature, beside one of real images if they are there.

    Example:
        >>> Panels(64, (0.7, 1.0)).file_name
        'samples-64-t0.7-t1.png'
    """

    def draw(
        self, recipe: Recipe, model: MultiscaleFlow, event: Event, seed: int, path: Path
    ) -> list[str]:
        """Draw all panels from the same noise."""
        given = self._as_tensor
        data, notes = real_samples(recipe, self.count, "images", given)
        panels = draw_panels(model, event, self.count, self.temperatures, seed, data, given)
        if self.guidance is not None:
            says = f"guidance {self.guidance:g}"
            panels = {k if k == "data" else f"{k}, {says}": v for k, v in panels.items()}
        by_class = given is None and event.classes is not None
        save_panels(panels, path, row_length(event, self.count) if by_class else None)
        return notes


class Strip(Drawing):
    """Images on their way out of the noise."""

    prefix = "strip"

    def draw(
        self, recipe: Recipe, model: MultiscaleFlow, event: Event, seed: int, path: Path
    ) -> list[str]:
        """Draw a row for each sample."""
        draw_strip(model, event, self.count, self.temperatures[0], seed, path, self._as_tensor)
        return []


class Vectors(Drawing):
    """Vectors as a file of NumPy; those of the plane as a picture beside it, too."""

    suffixes = (".npy",)

    def draw(
        self, recipe: Recipe, model: MultiscaleFlow, event: Event, seed: int, path: Path
    ) -> list[str]:
        """Write an array ``(count, dimension)``."""
        temperature, given = self.temperatures[0], self._as_tensor
        samples = draw_samples(model, event, self.count, temperature, seed, given)
        np.save(path, samples.numpy())
        picture = self.picture_beside(path, event)
        if picture is None:
            return []
        data, notes = real_samples(recipe, self.count, "points", given)
        draw_points(data, samples, picture)
        return notes

    def picture_beside(self, path: Path, event: Event) -> Path | None:
        """The picture of points of the plane, named as their file is."""
        return path.with_suffix(".png") if event.shape == (2,) else None


def real_samples(
    recipe: Recipe, count: int, kind: str, given: Tensor | None
) -> tuple[Tensor | None, list[str]]:
    """Return test samples to show beside what is drawn; where there are no files, why not."""
    try:
        return real_beside(load_splits(recipe), count, given), []
    except RecipeError as error:
        if not isinstance(error.__cause__, MissingDataError):
            raise
        return None, [f"no panel of real {kind}: {error.__cause__}"]
