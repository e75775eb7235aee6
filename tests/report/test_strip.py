"""The strip begins with noise, ends with the sample, and moves only what a block sees."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from rnode_dyn import MLPField, MultiscaleFlow, RegularizedFlow, Scale, Squeeze
from rnode_dyn.data import Event
from rnode_dyn.flows.transforms import Shift
from rnode_dyn.report.strip import draw_strip, frames, latent_coordinates
from tests.report.models import SHAPE, awake, multiscale

EVENT = Event(SHAPE, levels=256)


def one_block() -> MultiscaleFlow:
    return MultiscaleFlow(SHAPE, [Scale([RegularizedFlow(awake(MLPField(SHAPE, (8,))))])])


MODELS = {
    "multiscale": multiscale,
    "many blocks": lambda: multiscale(blocks=3),
    "shifted": lambda: multiscale(preprocess=Shift(-0.5)),
    "one block, no transform": one_block,
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request: pytest.FixtureRequest) -> MultiscaleFlow:
    return request.param().eval()


def test_the_last_frame_is_the_sample_itself(model: MultiscaleFlow) -> None:
    z = torch.randn(3, 64)
    with torch.no_grad():
        sample = model.generate(z)
    assert torch.equal(frames(model, z)[-1].images, sample)


def test_the_first_frame_is_the_noise_where_it_will_be_used(model: MultiscaleFlow) -> None:
    z = torch.randn(3, 64)
    with torch.no_grad():
        first = model.preprocess(frames(model, z)[0].images).z.flatten(1)
    assert torch.allclose(first[:, latent_coordinates(model)], z, atol=1e-4)


def test_noise_is_shown_through_the_sigmoid() -> None:
    z = torch.randn(2, 64)
    first = frames(multiscale().eval(), z)[0].images
    shades = (torch.sigmoid(z) - 0.01) / 0.98
    assert torch.allclose(first.flatten().sort().values, shades.flatten().sort().values, atol=1e-6)


def test_a_latent_vector_knows_its_coordinates() -> None:
    # With fields of zero the flow renames coordinates and does nothing else.
    model = multiscale(preprocess=Shift(0.0)).eval()
    for block in model.blocks:
        for parameter in block.parameters():
            torch.nn.init.zeros_(parameter)
    x = torch.randn(2, *SHAPE)
    with torch.no_grad():
        z = model(x).z
    assert torch.equal(z, x.flatten(1)[:, latent_coordinates(model)])


def test_coordinates_are_known_where_a_scale_ends_in_a_squeeze() -> None:
    scales = [Scale([], squeeze=True, split=True), Scale([])]
    x = torch.arange(64.0).reshape(1, *SHAPE)
    model = MultiscaleFlow(SHAPE, scales)
    assert torch.equal(model(x).z[0].long(), latent_coordinates(model))
    assert torch.equal(Squeeze()(x).z[:, 2:].flatten().long(), latent_coordinates(model)[:32])


def test_a_block_moves_only_the_coordinates_that_it_sees() -> None:
    model = multiscale().eval()
    strip = [frame.images.flatten(1) for frame in frames(model, torch.randn(2, 64))]
    times = (len(strip) - 1) // 3
    inner = list(model.walk())[-1].coordinates.flatten()
    joins_later = torch.ones(64, dtype=torch.bool).index_fill(0, inner, False)
    for frame in strip[: times + 1]:
        assert torch.equal(frame[:, joins_later], strip[0][:, joins_later])
        assert (frame is strip[0]) or not torch.equal(frame[:, inner], strip[0][:, inner])
    assert not torch.equal(strip[times + 1][:, joins_later], strip[0][:, joins_later])


@pytest.mark.parametrize(
    ("name", "columns", "first", "last"),
    [
        ("multiscale", 1 + 3 * 3, "scale 1\nblock 2\nt = 0.67", "scale 0\nblock 0\nt = 0"),
        ("many blocks", 1 + 9, "scale 1\nblock 8", "scale 0\nblock 0"),
        ("one block, no transform", 1 + 8, "scale 0\nblock 0\nt = 0.88", "scale 0\nblock 0\nt = 0"),
    ],
)
def test_columns_say_where_on_the_way_they_are(
    name: str, columns: int, first: str, last: str
) -> None:
    titles = [frame.title for frame in frames(MODELS[name]().eval(), torch.randn(1, 64))]
    assert (len(titles), titles[0].strip()) == (columns, "noise")
    assert (titles[1], titles[-1]) == (first, last)
    assert len({title.count("\n") for title in titles}) == 1  # all pictures are as high


def test_the_picture_has_a_row_for_each_sample(tmp_path: Path) -> None:
    heights = []
    for count in (2, 4):
        draw_strip(multiscale().eval(), EVENT, count, 1.0, 0, tmp_path / "strip.png")
        heights.append(Image.open(tmp_path / "strip.png").height)
    assert heights[1] - heights[0] == 2 * (64 + 3)
