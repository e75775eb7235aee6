"""`cifar10`: 60,000 colour pictures of ten kinds, 32×32 pixels, as torchvision lays them out."""

import pickle
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.images import check_count, splits_of_images, square_event
from rnode_dyn.data.missing import require_files, torchvision_download
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import Event, Splits

SIZES = {"train": 45_000, "validation": 5_000, "test": 10_000}


def describe(request: DataRequest) -> Event:
    """One picture: (3, 32, 32) with 256 levels, unless the request says otherwise."""
    return square_event(request, channels=3, own_size=32, own_levels=256)


def find(request: DataRequest) -> None:
    """Check that the batches are there."""
    root, folder = request.root, CIFAR10.base_folder
    steps = (
        f"Either download it with\n"
        f"{torchvision_download(f'CIFAR10({str(root)!r}, download=True)')}\n"
        f"or unpack {CIFAR10.url} in {root}, or set root to the folder that has {folder} in it."
    )
    batches = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    files = [*batches, CIFAR10.meta["filename"]]
    require_files(request, [f"{folder}/{name}" for name in files], steps)


def load(request: DataRequest) -> Splits:
    """45,000 pictures to train on, the training set's last 5,000 to validate, 10,000 to test."""
    pictures = _read(request.root, train=True, expected=SIZES["train"] + SIZES["validation"])
    parts = {
        "train": pictures[: SIZES["train"]],
        "validation": pictures[SIZES["train"] :],
        "test": _read(request.root, train=False, expected=SIZES["test"]),
    }
    return splits_of_images(request, describe(request), parts, own_levels=256)


def _read(root: Path, *, train: bool, expected: int) -> Tensor:
    """The training or the test pictures, as uint8 `(n, 3, 32, 32)`."""
    folder = root / CIFAR10.base_folder
    try:
        pixels = CIFAR10(root, train=train, download=False).data
    except (RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.PickleError) as error:
        raise DataError(
            f"cifar10's files cannot be read ({error}): remove {folder} and get the data anew."
        ) from error
    check_count("cifar10", folder, found=len(pixels), expected=expected)
    return torch.from_numpy(pixels).movedim(-1, 1).contiguous()
