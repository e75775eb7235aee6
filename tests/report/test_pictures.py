"""Pictures: shades land on levels, grids have their size, the plane has its axes right."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from rnode_dyn import MLPField, MultiscaleFlow, RegularizedFlow, Scale
from rnode_dyn.data import Event
from rnode_dyn.report.grids import draw_samples, on_levels, save_grid
from rnode_dyn.report.plane import density_on_grid, draw_plane, trajectories


@pytest.fixture
def plane_model() -> MultiscaleFlow:
    flow = RegularizedFlow(MLPField(2, (8,)))
    torch.nn.init.normal_(flow.field.layers[-1].weight, std=0.3)  # type: ignore[union-attr]
    return MultiscaleFlow((2,), [Scale([flow])]).eval()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_shades_are_the_levels_from_black_to_white(levels: int) -> None:
    centres = (torch.arange(levels) + 0.5) / levels
    shades = on_levels(centres, levels)
    assert shades[0] == 0
    assert shades[-1] == 1
    assert torch.allclose(shades, torch.arange(levels) / (levels - 1))


@pytest.mark.parametrize(("count", "side", "size"), [(9, 8, 3 * 34 + 2), (10, 40, 4 * 42 + 2)])
def test_grids_are_square_and_legible(count: int, side: int, size: int, tmp_path: Path) -> None:
    save_grid(torch.rand(count, 1, side, side), tmp_path / "grid.png")
    assert Image.open(tmp_path / "grid.png").width == size


def test_grids_show_grey_and_colour_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 channels cannot be shown"):
        save_grid(torch.rand(4, 2, 8, 8), tmp_path / "grid.png")


def test_samples_repeat_with_their_seed_and_shrink_with_temperature(
    plane_model: MultiscaleFlow,
) -> None:
    event = Event((2,), levels=None)
    one, two = (draw_samples(plane_model, event, 200, 1.0, seed=4) for _ in range(2))
    cold = draw_samples(plane_model, event, 200, 0.1, seed=4)
    assert torch.equal(one, two)
    assert cold.std() < 0.5 * one.std()


def test_density_is_laid_out_with_x_along_the_columns(plane_model: MultiscaleFlow) -> None:
    with torch.no_grad():
        plane_model.blocks[0].field.layers[-1].weight.zero_()  # type: ignore[union-attr]
        plane_model.blocks[0].field.layers[-1].bias.copy_(torch.tensor([-2.0, 0.0]))  # type: ignore[union-attr]
        density = density_on_grid(plane_model, limit=4.0, points=40)
    # The field carries x to x - 2: the density sits around (2, 0), right of the middle.
    row, column = divmod(int(density.argmax()), 40)
    assert (row in (19, 20), column in (29, 30)) == (True, True)


def test_trajectories_begin_at_the_data_and_end_at_the_latent(plane_model: MultiscaleFlow) -> None:
    points = torch.randn(6, 2)
    with torch.no_grad():
        paths = trajectories(plane_model, points)
        z = plane_model(points).z
    assert torch.equal(paths[0], points)
    assert torch.allclose(paths[-1], z, atol=1e-4)


def test_the_plane_is_drawn(plane_model: MultiscaleFlow, tmp_path: Path) -> None:
    draw_plane(plane_model, torch.randn(100, 2), tmp_path / "plane.png")
    assert Image.open(tmp_path / "plane.png").width > 1000
