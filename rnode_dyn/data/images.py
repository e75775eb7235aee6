"""What is done to 8-bit images before a flow sees them: resized, quantized, cut into splits."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from rnode_dyn.data.choosing import choose
from rnode_dyn.data.conditions import Conditions
from rnode_dyn.data.errors import DataError
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits, TensorSplit

# Whole data sets pass through here: wider intermediate types are kept to so many images.
_CHUNK = 4096


def resize(images: Tensor, size: int) -> Tensor:
    """Square images `(n, C, H, W)` at another size, by antialiased bilinear interpolation.

    >>> resize(torch.full((2, 1, 8, 8), 16, dtype=torch.uint8), 4).shape
    torch.Size([2, 1, 4, 4])
    """
    if images.shape[-1] == size:
        return images
    return _in_chunks(images, lambda chunk: functional.resize(chunk, [size, size], antialias=True))


def quantize(images: Tensor, own: int, levels: int) -> Tensor:
    """Images of `own` levels with fewer levels: floor(pixel·levels/own).

    >>> quantize(torch.tensor([0, 7, 8, 255], dtype=torch.uint8), own=256, levels=32)
    tensor([ 0,  0,  1, 31], dtype=torch.uint8)
    """
    if levels == own:
        return images
    return _in_chunks(images, lambda chunk: (chunk.int() * levels // own).to(torch.uint8))


def square_event(
    request: DataRequest, *, channels: int, own_size: int, own_levels: int, classes: int = 0
) -> Event:
    """What an image looks like once the request's size and levels are applied to it."""
    size, labelled = request.image_size or own_size, request.condition is not None
    levels = request.levels_within(own_levels)
    return Event((channels, size, size), levels, classes=classes if labelled else None)


def check_count(name: str, place: Path, *, found: int, expected: int) -> None:
    """Refuse files that hold another number of images than the data set has.

    >>> check_count("mnist", Path("data"), found=59_999, expected=60_000)
    Traceback (most recent call last):
    rnode_dyn.data.errors.DataError: mnist has 59,999 images in data where 60,000 are expected: ...
    """
    if found != expected:
        raise DataError(
            f"{name} has {found:,} images in {place} where {expected:,} are expected: "
            f"remove the files and get the data anew."
        )


def splits_of_images(
    request: DataRequest,
    event: Event,
    images: Mapping[str, Tensor],
    own_levels: int,
    labels: Mapping[str, Tensor] | None = None,
) -> Splits:
    """Each split's images cut to the size asked for, resized and quantized to the event.

    Args:
        request: What was asked for.
        event: What one sample shall look like.
        images: For each split's name its uint8 images `(n, C, H, W)` as the data set has them.
        own_levels: How many levels those images have.
        labels: For each split's name its images' classes `(n,)`, where they are asked for.
    """
    levels = event.levels or own_levels

    def prepared(split: str) -> TensorSplit:
        chosen = images[split][torch.as_tensor(choose(request, split, len(images[split])))]
        return TensorSplit(quantize(resize(chosen, event.shape[-1]), own_levels, levels))

    splits = Splits(event, prepared("train"), prepared("validation"), prepared("test"))
    if labels is None or request.condition is None:
        return splits
    train, validation, test = (
        labels[split][torch.as_tensor(choose(request, split, len(labels[split])))].long()
        for split in SPLIT_NAMES
    )
    return replace(splits, conditions=Conditions(train, validation, test))


def _in_chunks(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([change(chunk) for chunk in images.split(_CHUNK)])
