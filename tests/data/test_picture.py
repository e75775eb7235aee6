"""An image as a density: where it is dark there are points, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rnode_dyn.data import DataError, MissingDataError, load_data


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_points_fall_in_proportion_to_darkness(tmp_path: Path) -> None:
    darkness = np.array([[0, 50, 100, 250], [200, 0, 150, 250]])
    path = save(tmp_path / "a.png", 255 - darkness)
    points = load_data("picture", root=path, train_size=100_000).train.head(100_000)
    # The longer side, four pixels, spans [-4, 4]: a pixel is 2 × 2; rows go down, y goes up.
    column = ((points[:, 0] + 4) / 2).floor().long()
    row = ((2 - points[:, 1]) / 2).floor().long()
    assert (column.min(), column.max(), row.min(), row.max()) == (0, 3, 0, 1)
    counts = torch.bincount(4 * row + column, minlength=8) / 100_000
    torch.testing.assert_close(
        counts, torch.from_numpy(darkness.flatten() / 1000).float(), atol=0.01, rtol=0
    )
    within = ((points + 4) / 2) % 1
    torch.testing.assert_close(within.mean(dim=0), torch.full((2,), 0.5), atol=0.01, rtol=0)


def test_transparent_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4))
    pixels[0, 1, 3] = 255  # all black, one pixel opaque
    points = load_data("picture", root=save(tmp_path / "a.png", pixels)).train.head(999)
    assert (points >= 0).all()  # up and to the right


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_scikit_learns_images_need_no_file(name: str) -> None:
    points = load_data("picture", root=name).train.head(50_000)
    assert 3.9 < points[:, 0].abs().max() <= 4
    assert 2.5 < points[:, 1].abs().max() <= 4 * 427 / 640


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.full((4, 4), 255)
    pixels[0, 0] = 0
    save(tmp_path / "china.jpg", pixels)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "china.jpg", quality=100)
    assert load_data("picture", root="china.jpg").train.head(99).mean(dim=0)[0] < -2


@pytest.mark.parametrize("root", ["nowhere.png", "data", "."])
def test_an_image_that_is_missing_says_what_to_give(root: str) -> None:
    with pytest.raises(MissingDataError, match=r"set root to one .*china\.jpg or flower\.jpg"):
        load_data("picture", root=root)


def test_an_empty_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is all white"):
        load_data("picture", root=save(tmp_path / "a.png", np.full((3, 3), 255)))


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataError, match="is not a picture that can be read"):
        load_data("picture", root=tmp_path / "a.png")
