"""Reading checkpoints: weights and all that resuming needs, and no code."""

import pickle
from pathlib import Path
from typing import Any

import torch

from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU.

    Raises:
        RunError: if it is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RunError(f"{path} cannot be read as a checkpoint: it is damaged.") from error


def check_resumable(folder: RunFolder) -> None:
    """Raise where there is nothing to go on from.

    Raises:
        RunError: if the folder is no run, or has no sound ``last.ckpt``.
    """
    folder.checkpoint()
    if not folder.last_checkpoint.is_file():
        raise RunError(f"{folder.path} has no last.ckpt to go on from.")
    read_checkpoint(folder.last_checkpoint)
