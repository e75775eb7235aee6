"""`svhn`: 99,289 house numbers, 32×32 pixels, as torchvision lays them out; `extra` is not used."""

from pathlib import Path

import torch
from scipy.io.matlab import MatReadError
from torch import Tensor
from torchvision.datasets import SVHN

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.images import check_count, splits_of_images, square_event
from rnode_dyn.data.missing import require_files, torchvision_download
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import Event, Splits

SIZES = {"train": 68_257, "validation": 5_000, "test": 26_032}


def describe(request: DataRequest) -> Event:
    """One picture: (3, 32, 32) with 256 levels, unless the request says otherwise."""
    return square_event(request, channels=3, own_size=32, own_levels=256)


def find(request: DataRequest) -> None:
    """Check that both files are there."""
    root = request.root
    calls = [f"SVHN({str(root)!r}, {split!r}, download=True)" for split in ("train", "test")]
    files = [SVHN.split_list[split][1] for split in ("train", "test")]
    steps = (
        f"Either download it with\n{chr(10).join(map(torchvision_download, calls))}\n"
        f"or put {' and '.join(SVHN.split_list[split][0] for split in ('train', 'test'))} into "
        f"{root}, or set root to the folder that has them."
    )
    require_files(request, files, steps)


def load(request: DataRequest) -> Splits:
    """68,257 pictures to train on, the training set's last 5,000 to validate, 26,032 to test."""
    pictures = _read(request.root, "train", expected=SIZES["train"] + SIZES["validation"])
    parts = {
        "train": pictures[: SIZES["train"]],
        "validation": pictures[SIZES["train"] :],
        "test": _read(request.root, "test", expected=SIZES["test"]),
    }
    return splits_of_images(request, describe(request), parts, own_levels=256)


def _read(root: Path, split: str, expected: int) -> Tensor:
    """The pictures of one file, as uint8 `(n, 3, 32, 32)`."""
    path = root / SVHN.split_list[split][1]
    try:
        pixels = SVHN(root, split=split, download=False).data
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MatReadError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): remove it and get the data anew."
        ) from error
    check_count("svhn", path, found=len(pixels), expected=expected)
    return torch.from_numpy(pixels).contiguous()
