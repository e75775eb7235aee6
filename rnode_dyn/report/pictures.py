"""The pictures that suit a model: grids of images, or the plane; none for other vectors."""

from pathlib import Path

from rnode_dyn.data.splits import Event, Splits
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.grids import draw_samples, save_grid
from rnode_dyn.report.plane import draw_plane


def draw_pictures(
    recipe: Recipe, model: MultiscaleFlow, splits: Splits, folder: Path
) -> list[Path]:
    """Draw what can be drawn of a trained model into ``folder``; return the files."""
    if shows_as_image(splits.event):
        levels = splits.event.levels or 256
        real = splits.test.head(recipe.samples.count).float() / (levels - 1)
        save_grid(real, folder / "data.png")
        return [draw_grid(recipe, model, splits.event, folder / "samples.png"), folder / "data.png"]
    if splits.event.shape == (2,):
        draw_plane(model, splits.test.head(4000), folder / "plane.png")
        return [folder / "plane.png"]
    return []


def draw_grid(recipe: Recipe, model: MultiscaleFlow, event: Event, path: Path) -> Path:
    """Draw the recipe's grid of samples."""
    samples = recipe.samples
    shades = draw_samples(model, event, samples.count, samples.temperature, recipe.seed)
    save_grid(shades, path)
    return path


def shows_as_image(event: Event) -> bool:
    """Whether samples are grey or coloured images."""
    return len(event.shape) == 3 and event.shape[0] in (1, 3) and event.levels is not None
