"""Small data sets written to disk, in the layouts that the loaders read."""

import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


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


def write_cifar10(root: Path, *, train: int = 45, test: int = 10) -> None:
    """Five batches and a sixth to test on, with random pictures."""
    random = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    counts = {f"data_batch_{i}": train // 5 for i in range(1, 6)} | {"test_batch": test}
    for name, count in counts.items():
        pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0] * count}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a"]}))


def write_svhn(root: Path, *, train: int = 45, test: int = 10) -> None:
    """Both files in MATLAB's format, samples along the last axis."""
    random = np.random.default_rng(0)
    for name, count in {"train": train, "test": test}.items():
        pixels = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = np.full((count, 1), 10, dtype=np.uint8)
        savemat(root / f"{name}_32x32.mat", {"X": pixels, "y": labels})


def write_celeba(root: Path, *, train: int = 35, validation: int = 5, test: int = 10) -> None:
    """Pictures of 178×218 pixels and the official partition; the middle is bright."""
    random = np.random.default_rng(0)
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    lines = []
    for i, part in enumerate([0] * train + [1] * validation + [2] * test):
        picture = np.zeros((218, 178, 3), dtype=np.uint8)
        picture[35:183, 15:163] = random.integers(128, 256, 3, dtype=np.uint8)
        picture[35:39, 15:163] = 255
        name = f"{i + 1:06}.jpg"
        Image.fromarray(picture).save(folder / name, quality=95)
        lines.append(f"{name} {part}\n")
    (root / "celeba" / "list_eval_partition.txt").write_text("".join(lines))


def write_imagenet64(root: Path, *, batch: int = 5, test: int = 10) -> None:
    """Ten training batches and one to test on; every picture has its number in its first pixel."""
    names = [f"train_data_batch_{i}.npz" for i in range(1, 11)]
    random = np.random.default_rng(0)
    for i, name in enumerate([*names, "val_data.npz"]):
        count = batch if name in names else test
        pixels = random.integers(0, 256, (count, 3 * 64 * 64), dtype=np.uint8)
        pixels[:, 0] = range(i * batch, i * batch + count)
        np.savez(root / name, data=pixels, labels=np.ones(count, dtype=np.int64))
