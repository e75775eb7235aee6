"""Files that are there whole or not at all, whatever happens while they are written."""

import os
from collections.abc import Iterable
from pathlib import Path

_PART = ".part"


def write_whole(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file beside its place, let it reach the disk, and move it there.

    A reader, and whoever comes after a kill or a power cut, finds the old content or the new.

    Raises:
        OSError: if it cannot be written; what was there before stays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "figures.txt"
        >>> write_whole(path, b"old")
        >>> write_whole(path, b"new")
        >>> path.read_bytes(), os.listdir(path.parent)
        (b'new', ['figures.txt'])
    """
    part = write_part(path, data)
    try:
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_part(path: Path, data: bytes | bytearray | memoryview) -> Path:
    """Write what is to become a file under a name beside it, and let it reach the disk.

    Returns:
        The name, which `sweep` knows for a leftover.

    Raises:
        OSError: if it cannot be written; nothing is left then.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{_PART}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return part


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8."""
    write_whole(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folders: Iterable[Path]) -> None:
    """Remove what writers have left that were killed; none may be at work."""
    for folder in folders:
        for part in folder.glob(f".*{_PART}"):
            part.unlink(missing_ok=True)
