"""Taking up a run that was left: by its newest sound checkpoint."""

import os
from collections.abc import Callable
from pathlib import Path

from rnode_dyn.runs.checkpoints import read_checkpoint
from rnode_dyn.runs.columns import STEP
from rnode_dyn.runs.durable import sweep
from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.metrics_file import read_rows

Tell = Callable[[str], None]


def take_up(folder: RunFolder, tell: Tell) -> bool:
    """Sweep a run folder, and see to it that ``last.ckpt`` is sound.

    Where it is not, the newest one that is takes its place, and what is damaged is put aside.

    Args:
        folder: The run.
        tell: Takes a sentence where something is damaged.

    Returns:
        Whether there is something to go on from; a run that ended before its first checkpoint
        has nothing, and begins anew.

    Raises:
        RunError: if the folder is no run, or checkpoints are there and none is sound.
    """
    folder.check_is_run()
    folder.make_rooms()
    sweep(folder.rooms)
    kept = [path for path in _candidates(folder) if path.exists()]
    if not kept and _has_not_begun(folder):
        folder.metrics.unlink(missing_ok=True)
        return False
    sound = _newest_sound(folder, kept, tell)
    if sound != folder.last_checkpoint:
        _put_in_its_place(sound, folder, tell)
    elif folder.best_checkpoint.exists() and not _is_sound(folder.best_checkpoint):
        aside = _put_aside(folder.best_checkpoint)
        tell(
            f"{folder.best_checkpoint} is damaged and now lies in {aside.name}: the best weights "
            "are told anew from here on"
        )
    return True


def end(folder: RunFolder) -> None:
    """Keep of a finished run the newest checkpoint alone, once that is known to be sound.

    Raises:
        RunError: if it is not.
    """
    read_checkpoint(folder.last_checkpoint)
    folder.previous_checkpoint.unlink(missing_ok=True)


def _has_not_begun(folder: RunFolder) -> bool:
    """Whether all that was logged is what comes before the first step."""
    return all(row.get(STEP) == "0" for row in read_rows(folder.metrics))


def _candidates(folder: RunFolder) -> tuple[Path, ...]:
    """What a run can go on from, the newest first."""
    return folder.last_checkpoint, folder.previous_checkpoint, folder.best_checkpoint


def _newest_sound(folder: RunFolder, kept: list[Path], tell: Tell) -> Path:
    faults: list[RunError] = []
    for path in kept:
        try:
            read_checkpoint(path)
        except RunError as fault:
            faults.append(fault)
            continue
        for fault in faults:
            tell(str(fault))
        return path
    if folder.last_checkpoint not in kept:
        raise RunError(f"{folder.path} has no last.ckpt to go on from.")
    raise faults[0]


def _put_in_its_place(sound: Path, folder: RunFolder, tell: Tell) -> None:
    """Let the newest sound checkpoint be the last one."""
    last = folder.last_checkpoint
    if last.exists():
        _put_aside(last)
    try:
        os.link(sound, last)
    except OSError:  # a file system without links
        os.replace(sound, last)
    step = read_checkpoint(last).get("global_step")
    tell(f"{folder.path} goes on from {sound.name}, {step} steps into its stage")


def _is_sound(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except RunError:
        return False
    return True


def _put_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    return aside
