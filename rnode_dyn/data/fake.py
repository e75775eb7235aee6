"""`fake`: noise in the shape of images, for trying a recipe's shapes and memory without data."""

import torch

from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.seeding import generator_for
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits, TensorSplit

_SIZES = {"train": 512, "validation": 64, "test": 64}


def describe(request: DataRequest) -> Event:
    """One image: (3, 32, 32) with 256 levels, unless the request says otherwise."""
    size = request.image_size or 32
    return Event((request.channels or 3, size, size), request.levels_within(256))


def load(request: DataRequest) -> Splits:
    """Every pixel of every image drawn independently and uniformly."""
    event = describe(request)

    def noise(stream: int, split: str) -> TensorSplit:
        shape = (request.size_of(split) or _SIZES[split], *event.shape)
        generator = generator_for(request.seed, stream)
        top = event.levels or 256
        return TensorSplit(torch.randint(top, shape, generator=generator, dtype=torch.uint8))

    train, validation, test = (noise(i, split) for i, split in enumerate(SPLIT_NAMES))
    return Splits(event, train, validation, test)
