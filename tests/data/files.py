"""Small data sets written to disk, in the layouts that the loaders read."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(folder: Path, count: int, *, size: tuple[int, int] = (8, 6)) -> None:
    """Random pictures in two folders of classes; size is (width, height)."""
    random = np.random.default_rng(len(str(folder)))
    for i in range(count):
        path = folder / f"class{i % 2}" / f"{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)


def write_mnist(root: Path, counts: tuple[int, int] = (60_000, 10_000)) -> None:
    """Files in MNIST's layout, with random images."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for stem, n in zip(("train", "t10k"), counts, strict=True):
        images = struct.pack(">4I", 0x803, n, 28, 28) + random.bytes(n * 28 * 28)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, n) + bytes(n))


def write_vectors(root: Path) -> None:
    """Three files of normal vectors, in float64 as NumPy saves them."""
    random = np.random.default_rng(0)
    for name, rows in {"train": 40, "val": 10, "test": 20}.items():
        np.save(root / f"{name}.npy", random.normal(size=(rows, 3)))
