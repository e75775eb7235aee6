"""The pictures that suit a model: images, or the plane; none for other vectors."""

from pathlib import Path

from torch import Tensor

from rnode_dyn.data.splits import Event, Splits
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.beside import real_beside
from rnode_dyn.report.given import entered, row_length
from rnode_dyn.report.grids import draw_panels, save_panels
from rnode_dyn.report.plane import draw_plane
from rnode_dyn.report.strip import draw_strip

_STRIP_ROWS = 8


def draw_pictures(
    recipe: Recipe, model: MultiscaleFlow, splits: Splits, folder: Path
) -> list[Path]:
    """Draw what can be drawn of a trained model into ``folder``; return the files."""
    if shows_as_image(splits.event):
        data, strip = real_beside(splits, recipe.samples.count), folder / "strip.png"
        draw_strip(model, splits.event, _STRIP_ROWS, 1.0, recipe.seed, strip)
        return [draw_grid(recipe, model, splits.event, folder / "samples.png", data), strip]
    if splits.event.shape == (2,):
        given = splits.conditions_of(splits.test)
        conditions = None if given is None else entered(model, given)
        draw_plane(model, splits.test.head(4000), folder / "plane.png", conditions)
        return [folder / "plane.png"]
    return []


def draw_grid(
    recipe: Recipe, model: MultiscaleFlow, event: Event, path: Path, data: Tensor | None = None
) -> Path:
    """Draw the recipe's samples, beside real images where they are given."""
    count, temperatures = recipe.samples.count, recipe.samples.temperatures
    columns = None if event.classes is None else row_length(event, count)
    save_panels(draw_panels(model, event, count, temperatures, recipe.seed, data), path, columns)
    return path


def shows_as_image(event: Event) -> bool:
    """Whether samples are grey or coloured images."""
    return len(event.shape) == 3 and event.shape[0] in (1, 3) and event.levels is not None
