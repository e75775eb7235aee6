"""Pictures: shades land on levels, panels share their noise, the plane has its axes right."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from rnode_dyn import (
    ConvField,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
)
from rnode_dyn.data import Event
from rnode_dyn.report.canvas import grid, in_rows, titled
from rnode_dyn.report.grids import draw_panels, draw_samples, on_levels, save_panels
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


@pytest.mark.parametrize(
    ("side", "factor"), [(8, 4), (14, 3), (28, 2), (32, 1), (64, 1)], ids=lambda v: str(v)
)
def test_pixels_are_enlarged_by_whole_factors_and_not_blurred(side: int, factor: int) -> None:
    shades = torch.randint(0, 256, (1, 1, side, side)) / 255
    picture = pil_to_tensor(grid(shades, columns=1, side=32))[:1]
    gap = (picture.shape[-1] - side * factor) // 2
    inside = picture[:, gap : gap + side * factor, gap : gap + side * factor]
    expected = (shades[0] * 255).round().to(torch.uint8)
    for row in range(factor):
        for column in range(factor):
            assert torch.equal(inside[:, row::factor, column::factor], expected)


def test_grids_show_grey_and_colour_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 channels cannot be shown"):
        save_panels({"data": torch.rand(4, 2, 8, 8)}, tmp_path / "grid.png")


def test_a_title_stands_above_its_picture_in_ink() -> None:
    black = Image.new("RGB", (120, 50), "black")
    for lines in (1, 3):
        picture = titled(black, "\n".join(["temperature 0.7"] * lines))
        heading = picture.crop((0, 0, picture.width, picture.height - 50))
        assert picture.height >= 50 + 15 * lines
        assert heading.getextrema()[0] == (0, 255)  # ink on paper
        below = picture.crop((0, heading.height, 120, picture.height))
        assert below.getextrema()[0] == (0, 0)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (5, 3, 2), (9, 3, 3)])
def test_wide_pictures_go_on_in_a_new_row(count: int, columns: int, rows: int) -> None:
    whole = in_rows([Image.new("RGB", (500, 40), "black")] * count)
    assert whole.width == 500 * columns + 12 * (columns + 1)
    assert whole.height == 40 * rows + 12 * (rows + 1)


def test_panels_are_the_same_noise_at_every_temperature() -> None:
    # The field is zero, so that a sample is its noise, pushed through the logit's inverse.
    model = MultiscaleFlow(
        (1, 4, 4), [Scale([RegularizedFlow(ConvField(1, (4,)))])], LogitTransform(1e-5)
    )
    event = Event((1, 4, 4), levels=4096)
    data = torch.randint(0, 4096, (3, 1, 4, 4))
    panels = draw_panels(model.eval(), event, 3, [0.5, 1.0], seed=2, data=data)
    assert list(panels) == ["data", "temperature 0.5", "temperature 1"]
    assert torch.equal(panels["data"], data / 4095)
    half, whole = (panels[f"temperature {t}"].logit() for t in ("0.5", "1"))
    assert torch.allclose(2 * half, whole, atol=0.02)


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
