"""Pictures as samples: cut, resized and brought to their levels; at once, or batch by batch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional

from rnode_dyn.data.decoding import Picture, read_picture
from rnode_dyn.data.errors import DataError
from rnode_dyn.data.images import quantize
from rnode_dyn.data.indexing import rows_at
from rnode_dyn.data.regular import shown
from rnode_dyn.data.splits import Event, Split, TensorSplit

# A split that is larger than this as uint8 is decoded batch by batch instead of once.
IN_MEMORY_BYTES = 2**30

MODES = {1: "L", 3: "RGB"}


class PictureSplit(Split):
    """Pictures that are decoded when a batch asks for them.

    Each is read upright and with its own depth: grey of 16 bits has all of its 65,536 shades until
    it is brought to the event's levels.

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
        rows = rows_at(indices, len(self))
        samples = self._empty(len(rows))
        for place, row in enumerate(rows):
            samples[place] = self._decode(self.paths[row])
        return samples

    def decoded(self) -> TensorSplit:
        """All pictures in one tensor, decoded by as many threads as the machine has cores."""
        samples = self._empty(len(self))

        def fill(index: int) -> None:
            samples[index] = self._decode(self.paths[index])

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(self))))  # a list: map raises only when it is read
        return TensorSplit(samples)

    def _empty(self, count: int) -> Tensor:
        return torch.empty((count, *self.event.shape), dtype=torch.uint8)

    def _decode(self, path: str) -> Tensor:
        picture = read_opaque(path)
        image = picture.image if picture.levels > 256 else picture.image.convert(self._mode)
        if self.crop is not None:
            image = _middle(image, self.crop, path)
        pixels = _as_tensor(self._fitted(image), picture.levels)
        height, width = self.event.shape[1:]
        if tuple(pixels.shape[1:]) != (height, width):
            raise DataError(
                f"{shown(path)} is {pixels.shape[2]}×{pixels.shape[1]} pixels and another picture "
                f"{width}×{height}: set image_size, and all are resized and cut to it."
            )
        return quantize(pixels[None], own=picture.levels, levels=self.event.levels or 256)[0]

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


def read_opaque(path: str) -> Picture:
    """The picture in a file, whose pixels all have to be there to see.

    Raises:
        DataError: It cannot be read, or hides pixels behind transparency.
    """
    picture = read_picture(path)
    if picture.alpha is not None:
        raise DataError(
            f"{shown(path)} has transparent pixels, and what they would show depends on what is "
            f"behind them: save it on a background of your own."
        )
    return picture


def _as_tensor(image: Image.Image, levels: int) -> Tensor:
    """The pixels `(channels, height, width)`; deep ones are rounded, as Pillow rounds 8 bits."""
    if image.mode != "F":
        return functional.pil_to_tensor(image)
    pixels = np.asarray(image).round().clip(0, levels - 1)
    return torch.from_numpy(pixels.astype(np.int32))[None]


def _middle(image: Image.Image, side: int, path: str) -> Image.Image:
    if min(image.size) < side:
        raise DataError(
            f"{shown(path)} is {image.width}×{image.height} pixels, and {side}×{side} are cut from "
            f"its middle: get the pictures in their own size."
        )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
