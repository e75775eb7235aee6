"""Whether files are the ones that a recipe was written for: their checksums, looked at on load."""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePath

from rnode_dyn.data.errors import DataError, MissingDataError

_DIGITS = {"md5": 32, "sha256": 64, "images": 64}
_IDX_OF_BYTES = b"\x00\x00\x08"  # how an idx file of uint8 begins; its number of axes comes next


def verify(root: Path, checksums: Mapping[str, str]) -> None:
    """Compare files with the checksums that are stated for them.

    Args:
        root: The folder that the files' names are relative to.
        checksums: For each file `md5:` or `sha256:` of its bytes; or `images:`, which is the same
            whatever the order of the samples in an idx file (see `digest_of_images`).

    Raises:
        MissingDataError: A file is not there.
        DataError: A file is another one than was stated or lies outside of the root, or a checksum
            is none.

    >>> verify(Path("."), {"train.bin": "crc:1234"})
    Traceback (most recent call last):
    rnode_dyn.data.errors.DataError: The checksum 'crc:1234' of train.bin cannot be read: write ...
    """
    for name, stated in checksums.items():
        kind = _kind_of(name, stated)
        _check_below(root, name)
        if not (root / name).is_file():
            raise MissingDataError(
                f"{root / name} is not there, and a checksum is stated for it: expected {stated}. "
                f"Put the file there, or drop the checksum."
            )
        found = f"{kind}:{_digest(root / name, kind)}"
        if found != stated.lower():
            raise DataError(
                f"{root / name} is another file than the one that was stated: found {found}, "
                f"expected {stated}. Get the file anew, or state the checksum of yours."
            )


def digest_of_images(path: Path) -> str:
    """SHA-256 over the sorted SHA-256 digests of an idx file's samples, in hexadecimal.

    Copies of a data set whose samples lie in different orders have it in common.
    """
    content = path.read_bytes()
    if content[:3] != _IDX_OF_BYTES or len(content) < 8:
        raise DataError(f"{path} is no idx file of bytes: state its md5: or sha256: instead.")
    count = int.from_bytes(content[4:8], "big")
    samples = memoryview(content)[4 + 4 * content[3] :]
    if count == 0 or len(samples) % count:
        raise DataError(f"{path} does not hold the {count} samples that it announces.")
    size = len(samples) // count
    starts = range(0, len(samples), size)
    digests = sorted(hashlib.sha256(samples[i : i + size]).digest() for i in starts)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _check_below(root: Path, name: str) -> None:
    path = PurePath(name)
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise DataError(
            f"A checksum is stated for {name!r}, which does not lie below {root}: write the name "
            f"of a file there, relative to it."
        )


def _kind_of(name: str, stated: str) -> str:
    kind, _, digits = stated.lower().partition(":")
    right = len(digits) == _DIGITS.get(kind) and set(digits) <= set("0123456789abcdef")
    if not right:
        raise DataError(
            f"The checksum {stated!r} of {name} cannot be read: write md5: and 32, or sha256: or "
            f"images: and 64 hexadecimal digits."
        )
    return kind


def _digest(path: Path, kind: str) -> str:
    if kind == "images":
        return digest_of_images(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
