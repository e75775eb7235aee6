"""Resizing and quantizing 8-bit images."""

import pytest
import torch

from rnode_dyn.data import images


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randint(256, (10, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


def test_resizing_averages_and_does_not_alias() -> None:
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 255
    half = images.resize(board.byte()[None, None], 8)
    assert half.dtype == torch.uint8
    # Taking every other pixel would make it all black or all white.
    assert (half[..., 1:-1, 1:-1].int() - 127).abs().max() <= 1


@pytest.mark.parametrize("size", [4, 16])
def test_resizing_keeps_the_brightness(noise: torch.Tensor, size: int) -> None:
    resized = images.resize(noise, size)
    assert resized.shape == (10, 3, size, size)
    assert abs(resized.float().mean() - noise.float().mean()) < 3


@pytest.mark.parametrize(("own", "levels"), [(256, 32), (256, 2), (256, 100), (17, 16), (17, 5)])
def test_quantizing_is_the_floor_and_reaches_every_level(own: int, levels: int) -> None:
    pixels = torch.arange(own, dtype=torch.uint8)
    got = images.quantize(pixels, own, levels).tolist()
    assert got == [pixel * levels // own for pixel in range(own)]
    assert set(got) == set(range(levels))


def test_chunks_make_no_difference(noise: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = images.resize(images.quantize(noise, 256, 32), 5)
    monkeypatch.setattr(images, "_CHUNK", 3)
    assert torch.equal(images.resize(images.quantize(noise, 256, 32), 5), whole)
