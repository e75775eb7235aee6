"""Checkpoints: read with proof that they are whole, and without running code; written likewise."""

import io
import os
from pathlib import Path
from typing import Any

import torch

from rnode_dyn.runs.durable import sync_folder, write_part
from rnode_dyn.runs.errors import RunError, SaveError
from rnode_dyn.runs.seal import is_whole, seal


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU.

    Raises:
        RunError: if it cannot be read, is not as it was written, or is no checkpoint of a run.
    """
    data = _read(path)
    if not is_whole(data):
        raise _unreadable(path, "it is damaged")
    try:
        checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a crafted file raises whatever its author likes
        raise _unreadable(path, "it holds something else than weights") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise _unreadable(path, "it holds something else than a run's weights")
    return checkpoint


def write_checkpoint(checkpoint: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint, sealed, and look whether it can be read again.

    Args:
        checkpoint: What to write: tensors and plain values.
        path: Where to.
        previous: Where what lies there now is kept.

    Raises:
        SaveError: if it cannot be written; what lies there stays.
    """
    file = io.BytesIO()
    torch.save(checkpoint, file)
    try:
        part = write_part(path, seal(file.getvalue()))
        if not is_whole(part.read_bytes()):
            part.unlink()
            raise OSError("what was read back is not what was written")
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(f"{path} cannot be written ({reason}).") from error


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise _unreadable(path, "it is no file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error.strerror).lower()) from error


def _unreadable(path: Path, reason: str) -> RunError:
    return RunError(f"{path} cannot be read as a checkpoint: {reason}.")


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, so that it stays in its place until the new one takes it."""
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # a file system without links
        os.replace(path, previous)
