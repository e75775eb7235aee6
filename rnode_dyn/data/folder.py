"""`folder`: pictures of one's own under root/train, root/test and, if there is one, validation."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms.v2 import functional

from rnode_dyn.data.choosing import choose, fixed_order
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.images import quantize
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Split, Splits, TensorSplit

# A split that is larger than this as uint8 is decoded batch by batch instead of once.
IN_MEMORY_BYTES = 2**30

_MODES = {1: "L", 3: "RGB"}
_VALIDATION_FOLDERS = ("validation", "val")


def describe(request: DataRequest) -> Event:
    """One picture; without an image_size all have to have the same size."""
    channels = request.channels or 3
    if channels not in _MODES:
        raise DataError(f"channels = {channels} cannot be decoded: write 1 (grey) or 3 (RGB).")
    height, width = request.image_size, request.image_size
    if height is None or width is None:
        width, height = _picture(_pictures(request, "train")[0], _MODES[channels]).size
    return Event((channels, height, width), request.levels_within(256))


def load(request: DataRequest) -> Splits:
    """The pictures of the folders; decoded once if they are few, else batch by batch."""
    event = describe(request)
    train, validation, test = (
        _split(event, request.image_size, paths) for paths in _chosen_paths(request)
    )
    return Splits(event, train, validation, test)


class PictureSplit(Split):
    """Pictures that are decoded when a batch asks for them.

    Args:
        paths: The image files, one a sample.
        event: What a decoded picture looks like.
        image_size: Pictures are resized (the shorter side) and cut (the middle) to this; None
            takes them as they are.
    """

    def __init__(self, paths: Sequence[Path], event: Event, image_size: int | None) -> None:
        self.paths = list(paths)
        self.event = event
        self.image_size = image_size
        self._mode = _MODES[event.shape[0]]

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

    def _decode(self, path: Path) -> Tensor:
        pixels = functional.pil_to_tensor(self._fitted(_picture(path, self._mode)))
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


def _split(event: Event, image_size: int | None, paths: Sequence[Path]) -> Split:
    pictures = PictureSplit(paths, event, image_size)
    return pictures.decoded() if len(paths) * event.dims <= IN_MEMORY_BYTES else pictures


def _chosen_paths(request: DataRequest) -> list[list[Path]]:
    paths = {"train": _pictures(request, "train"), "test": _pictures(request, "test")}
    folder = _validation_folder(request.root)
    if folder is None:
        paths["train"], paths["validation"] = _held_out(request, paths["train"])
    else:
        paths["validation"] = _pictures(request, folder)
    return [
        [paths[split][i] for i in choose(request, split, len(paths[split]))]
        for split in SPLIT_NAMES
    ]


def _validation_folder(root: Path) -> str | None:
    return next((name for name in _VALIDATION_FOLDERS if (root / name).is_dir()), None)


def _held_out(request: DataRequest, paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Training pictures, and some kept from them: as many as asked for, else a tenth."""
    held = request.validation_size or max(1, len(paths) // 10)
    if held >= len(paths):
        raise DataError(
            f"folder cannot keep {held} of {len(paths)} training pictures for validation: write a "
            f"smaller validation_size, or add pictures to {request.root / 'validation'}."
        )
    return paths[held:], paths[:held]


def _pictures(request: DataRequest, folder: str) -> list[Path]:
    """The image files in and below a folder, but for hidden ones, in a fixed mixed order.

    Sorted they would lie class by class, and the first ones would speak for one class only.
    """
    found = (request.root / folder).rglob("*")
    pictures = sorted(
        path
        for path in found
        if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith(".")
    )
    if not pictures:
        raise MissingDataError(
            f"folder finds no pictures in {request.root / folder}: lay them out as "
            f"{request.root}/train/… and {request.root}/test/… (folders of classes inside are "
            f"fine; {' '.join(IMG_EXTENSIONS)}), or set root to the folder that has them."
        )
    return [pictures[i] for i in fixed_order(len(pictures))]


def _picture(path: Path, mode: str) -> Image.Image:
    """The picture, read whole, in grey or RGB."""
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except (OSError, SyntaxError) as error:  # a broken PNG raises SyntaxError
        raise DataError(
            f"{path} is not a picture that can be read ({error}): remove or replace it."
        ) from error
