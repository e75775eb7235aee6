"""`mnist`: 70,000 handwritten digits, 28×28 pixels, as torchvision lays them out on disk."""

from pathlib import Path

from torch import Tensor
from torchvision.datasets import MNIST

from rnode_dyn.data.errors import DataError
from rnode_dyn.data.images import splits_of_images, square_event
from rnode_dyn.data.missing import require_files, torchvision_download
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import Event, Splits

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_TRAIN = 55_000  # of the 60,000; the other 5,000 validate


def describe(request: DataRequest) -> Event:
    """One digit: (1, 28, 28) with 256 levels, unless the request says otherwise."""
    return square_event(request, channels=1, own_size=28, own_levels=256, classes=10)


def find(request: DataRequest) -> None:
    """Check that the four files are there."""
    root = request.root
    raw = root / "MNIST" / "raw"
    steps = (
        f"Either download it with\n{torchvision_download(f'MNIST({str(root)!r}, download=True)')}\n"
        f"or put the four files {', '.join(FILES)} (unzipped) into {raw}, "
        f"or set root to the folder that has MNIST/raw in it."
    )
    require_files(request, [f"MNIST/raw/{name}" for name in FILES], steps)


def load(request: DataRequest) -> Splits:
    """55,000 digits to train on, the training set's last 5,000 to validate, 10,000 to test."""
    event = describe(request)
    digits, labels = _read(request.root, train=True, expected=60_000)
    test, test_labels = _read(request.root, train=False, expected=10_000)
    parts = {"train": digits[:_TRAIN], "validation": digits[_TRAIN:], "test": test}
    classes = {"train": labels[:_TRAIN], "validation": labels[_TRAIN:], "test": test_labels}
    return splits_of_images(request, event, parts, 256, classes)


def _read(root: Path, *, train: bool, expected: int) -> tuple[Tensor, Tensor]:
    """The images of one of the two files, as uint8 `(n, 1, 28, 28)`, and their digits."""
    advice = f"remove {root / 'MNIST'} and get the data anew."
    try:
        found = MNIST(root, train=train, download=False)
        images, labels = found.data, found.targets
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        # What torchvision raises on a damaged file depends on where the damage is.
        raise DataError(f"mnist's files cannot be read ({error}): {advice}") from error
    if images.shape != (expected, 28, 28):
        raise DataError(
            f"mnist's {'training' if train else 'test'} images have the shape "
            f"{tuple(images.shape)}, not {(expected, 28, 28)}: {advice}"
        )
    return images[:, None], labels
