"""How Lightning's trainer writes and reads checkpoints: sealed, whole, and without running code."""

import os
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import CheckpointIO

from rnode_dyn.runs.checkpoints import read_checkpoint, write_checkpoint
from rnode_dyn.runs.folder import RunFolder


class CheckpointFiles(CheckpointIO):
    """Writes and reads the checkpoints of a run; the one before the last is kept.

    Lightning's own writes into the folder of temporary files first: where that is another file
    system, a kill while the file is moved leaves neither the old checkpoint nor the new.

    Args:
        folder: The run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            SaveError: if it cannot be written.
        """
        # Lightning's names have no links in them and start at the root; a run's folder may not.
        is_last = os.path.realpath(path) == os.path.realpath(self.folder.last_checkpoint)
        previous = self.folder.previous_checkpoint if is_last else None
        if Path(path).parent != self.folder.checkpoints:  # perhaps of a callback that a user gave
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(checkpoint, Path(path), previous)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; Lightning moves what it holds to its devices.

        Raises:
            RunError: if it cannot be read, or is damaged.
        """
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)
