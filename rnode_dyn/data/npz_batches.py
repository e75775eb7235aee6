"""ImageNet64's official .npz batches, unpacked once into one .npy file per part beside them.

Compressed batches cannot be mapped into memory, and all of them at once fill 15 GB.
"""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from rnode_dyn.data.errors import DataError, MissingDataError

BATCHES = {
    "train": tuple(f"train_data_batch_{i}.npz" for i in range(1, 11)),
    "test": ("val_data.npz",),
}
ARCHIVES = (
    "Imagenet64_train_part1_npz.zip",
    "Imagenet64_train_part2_npz.zip",
    "Imagenet64_val_npz.zip",
)
_UNPACKED = {"train": "train_64x64.npy", "test": "val_64x64.npy"}
_SHAPE = (3, 64, 64)


def find_batches(root: Path) -> bool:
    """Whether a folder has batches, or what they were unpacked to."""
    names = [name for part in BATCHES.values() for name in part]
    return any((root / name).is_file() for name in (*names, *_UNPACKED.values()))


def unpacked(root: Path, part: str) -> tuple[Path, int]:
    """The .npy file of one part (train or test) and its number of images; made if need be.

    Raises:
        MissingDataError: Batches are missing.
        DataError: A batch is damaged, or holds something else.
    """
    path = root / _UNPACKED[part]
    if not path.is_file():
        _unpack([root / name for name in BATCHES[part]], path)
    try:
        images = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}): remove it, to unpack anew.") from error
    if images.shape[1:] != _SHAPE or images.dtype != np.uint8:
        raise DataError(
            f"{path} has {images.dtype} of shape {images.shape}, not uint8 images {_SHAPE}: "
            f"remove it, to unpack anew."
        )
    return path, len(images)


def _unpack(batches: list[Path], path: Path) -> None:
    missing = [batch.name for batch in batches if not batch.is_file()]
    if missing:
        raise MissingDataError(
            f"imagenet64 is not complete in {path.parent}: {', '.join(missing)} not found there. "
            f"Unzip {', '.join(ARCHIVES)} of https://image-net.org/download-images into it."
        )
    # Under a name of this process's own until it is whole: other processes may be at it as well.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        _write(batches, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(batches: list[Path], path: Path) -> None:
    shape = (sum(map(_count, batches)), *_SHAPE)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    start = 0
    for batch in batches:
        pixels = _read(batch)
        images[start : start + len(pixels)] = pixels
        start += len(pixels)
    images.flush()


def _count(batch: Path) -> int:
    """The number of images in a batch, as its header has it: no pixel is read."""
    try:
        with zipfile.ZipFile(batch) as archive, archive.open("data.npy") as file:
            np.lib.format.read_magic(file)
            return np.lib.format.read_array_header_1_0(file)[0][0]
    except (zipfile.BadZipFile, KeyError, ValueError, IndexError) as error:
        raise _damaged(batch, str(error)) from error


def _read(batch: Path) -> np.ndarray:
    try:
        with np.load(batch, allow_pickle=False) as arrays:
            pixels = arrays["data"]
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise _damaged(batch, str(error)) from error
    if pixels.dtype != np.uint8 or pixels[0].size != np.prod(_SHAPE):
        raise _damaged(batch, f"{pixels.dtype} of shape {pixels.shape}")
    return pixels.reshape(-1, *_SHAPE)


def _damaged(batch: Path, reason: str) -> DataError:
    return DataError(
        f"{batch} is no batch of ImageNet64, a uint8 array `data` of shape (n, 12288) "
        f"({reason}): get it anew."
    )
