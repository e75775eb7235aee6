"""`picture`: an image as a density of the plane, the darker the denser; root names the image."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from rnode_dyn.data.decoding import read_picture
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.seeding import generator_for
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits, TensorSplit

_SIZES = {"train": 50_000, "validation": 2_000, "test": 5_000}
_HALF_WIDTH = 4.0  # of the longer side


def describe(request: DataRequest) -> Event:
    """One point of the plane."""
    return Event((2,))


def load(request: DataRequest) -> Splits:
    """Fresh points for each split, from a stream of their own, drawn in proportion to darkness.

    A point is uniform within its pixel. The image's longer side spans [-4, 4].
    """
    darkness = _darkness(_find(request.root))
    train, validation, test = (
        TensorSplit(_draw(darkness, request.size_of(split) or _SIZES[split], request.seed, stream))
        for stream, split in enumerate(SPLIT_NAMES)
    )
    return Splits(describe(request), train, validation, test)


def _draw(darkness: torch.Tensor, count: int, seed: int, stream: int) -> torch.Tensor:
    """Points `(count, 2)`: across, and up."""
    generator = generator_for(seed, stream)
    height, width = darkness.shape
    # The cumulative sum in float64: torch.multinomial takes 2**24 pixels at most.
    cumulative = darkness.flatten().double().cumsum(0)
    drawn = cumulative[-1] * torch.rand(count, generator=generator, dtype=torch.float64)
    pixel = torch.searchsorted(cumulative, drawn, right=True).clamp(max=height * width - 1)
    corner = torch.stack([pixel % width, pixel // width], dim=1)
    middle = torch.tensor([width, height]) / 2
    offset = corner + torch.rand(count, 2, generator=generator) - middle
    return offset * torch.tensor([1.0, -1.0]) * (2 * _HALF_WIDTH / max(height, width))


def _darkness(path: Path) -> torch.Tensor:
    """255 for black, 0 for white; what is transparent counts as white."""
    picture = read_picture(path)
    image = picture.in_8_bits().convert("RGBA")
    if picture.alpha is not None:
        image.putalpha(picture.alpha)
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    darkness = 255 - torch.from_numpy(np.array(paper.convert("L"))).int()
    if not darkness.any():
        raise DataError(f"{path} is all white: no point would fall anywhere. Give another image.")
    return darkness


def _find(root: Path) -> Path:
    """The image file, or else scikit-learn's sample image of that name."""
    samples = {Path(name).name: Path(name) for name in load_sample_images().filenames}
    if root.is_file():
        return root
    if str(root) in samples:
        return samples[str(root)]
    raise MissingDataError(
        f"picture finds no image file {root}: set root to one (.png, .jpg, …), or to "
        f"{' or '.join(samples)}, which come with scikit-learn."
    )
