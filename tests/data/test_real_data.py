"""The real MNIST and real photographs, where they are at hand."""

from pathlib import Path

import pytest

from rnode_dyn.data import load_data


def test_mnist_has_its_known_mean(real_data: Path) -> None:
    splits = load_data("mnist", root=real_data)
    pixels = splits.test.head(10_000).double() / 255
    assert pixels.mean().item() == pytest.approx(0.13251, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.31048, abs=1e-4)


def test_smaller_mnist_is_as_bright(real_data: Path) -> None:
    small = load_data("mnist", root=real_data, image_size=14, levels=32, train_size=100)
    assert small.event_shape == (1, 14, 14)
    assert small.test.head(10_000).double().mean().item() / 31 == pytest.approx(0.13, abs=0.01)


@pytest.mark.parametrize(("size", "levels"), [(None, None), (64, 32), (16, 256)])
def test_photographs_load_at_every_size(
    real_data: Path, size: int | None, levels: int | None
) -> None:
    splits = load_data("folder", root=real_data / "photos32", image_size=size, levels=levels)
    side, top = size or 32, levels or 256
    assert splits.event_shape == (3, side, side)
    assert len(splits.train) + len(splits.validation) == 1000
    assert len(splits.test) == 250
    assert 0.4 < splits.train.head(900).double().mean().item() / top < 0.6
