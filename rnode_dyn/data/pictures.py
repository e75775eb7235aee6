"""Image files: found in folders, decoded, cut and resized; at once, or batch by batch."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.images import quantize
from rnode_dyn.data.splits import Event, Split, TensorSplit

# A split that is larger than this as uint8 is decoded batch by batch instead of once.
IN_MEMORY_BYTES = 2**30

MODES = {1: "L", 3: "RGB"}


class PictureSplit(Split):
    """Pictures that are decoded when a batch asks for them.

    Args:
        paths: The image files, one a sample.
        event: What a decoded picture looks like.
        image_size: Pictures are resized (the shorter side) and cut (the middle) to this; None
            takes them as they are.
        crop: Side of the square that is first cut from the middle; None: the whole picture.
    """

    def __init__(
        self, paths: Sequence[str], event: Event, image_size: int | None, crop: int | None = None
    ) -> None:
        self.paths = list(paths)
        self.event = event
        self.image_size = image_size
        self.crop = crop
        self._mode = MODES[event.shape[0]]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        return torch.stack([self._decode(self.paths[index]) for index in indices])

    def decoded(self) -> TensorSplit:
        """All pictures in one tensor, decoded by as many threads as the machine has cores."""
        samples = torch.empty((len(self), *self.event.shape), dtype=torch.uint8)

        def fill(index: int) -> None:
            samples[index] = self._decode(self.paths[index])

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(self))))  # a list: map raises only when it is read
        return TensorSplit(samples)

    def _decode(self, path: str) -> Tensor:
        image = read_picture(path, self._mode)
        if self.crop is not None:
            image = _middle(image, self.crop, path)
        pixels = functional.pil_to_tensor(self._fitted(image))
        if tuple(pixels.shape) != self.event.shape:
            height, width = self.event.shape[1:]
            raise DataError(
                f"{path} is {pixels.shape[2]}×{pixels.shape[1]} pixels and another picture "
                f"{width}×{height}: set image_size, and all are resized and cut to it."
            )
        return quantize(pixels[None], own=256, levels=self.event.levels or 256)[0]

    def _fitted(self, image: Image.Image) -> Image.Image:
        if self.image_size is None:
            return image
        # Pillow's bilinear filter widens with the reduction: it is antialiased.
        square = (self.image_size, self.image_size)
        return ImageOps.fit(image, square, method=Image.Resampling.BILINEAR)


def split_of_pictures(
    paths: Sequence[str], event: Event, image_size: int | None, crop: int | None = None
) -> Split:
    """The pictures, decoded once if they fit in `IN_MEMORY_BYTES`, else batch by batch."""
    pictures = PictureSplit(paths, event, image_size, crop)
    return pictures.decoded() if len(paths) * event.dims <= IN_MEMORY_BYTES else pictures


def pictures_below(folder: Path) -> list[str]:
    """The image files in and below a folder, sorted; hidden ones are none."""
    return sorted(
        # Text, for a million Path objects would fill a gigabyte.
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")
    )


def read_picture(path: str | Path, mode: str) -> Image.Image:
    """The picture, read whole, in one of Pillow's modes, such as `L` (grey) or `RGB`."""
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except (OSError, SyntaxError) as error:  # a broken PNG raises SyntaxError
        raise DataError(
            f"{path} is not a picture that can be read ({error}): remove or replace it."
        ) from error


def _middle(image: Image.Image, side: int, path: str) -> Image.Image:
    if min(image.size) < side:
        raise DataError(
            f"{path} is {image.width}×{image.height} pixels, and {side}×{side} are cut from its "
            f"middle: get the pictures in their own size."
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
