"""Lightning's count of batches and epochs, for a training that goes on in another way."""

from typing import Any


def go_on_with_parts(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Count the batches of a checkpoint anew, in place, as steps of so many parts each.

    Steps are kept: a step of which some parts had been read is read again.

    Args:
        checkpoint: As Lightning has read it.
        accumulate: Parts that a process takes of each step from now on.

    Example:
        >>> progress = {"current": {"ready": 5, "completed": 5}, "is_last_batch": False}
        >>> loops = {"fit_loop": {"epoch_loop.batch_progress": progress}}
        >>> go_on_with_parts({"loops": loops, "FlowDataModule": {"accumulate": 2}}, accumulate=3)
        >>> progress["current"]
        {'ready': 6, 'completed': 6}
    """
    before = checkpoint.get("FlowDataModule", {}).get("accumulate", 1)
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in _counts(progress):
        counts.update({name: n // before * accumulate for name, n in counts.items()})


def go_on_within_the_epoch(checkpoint: dict[str, Any]) -> None:
    """Take an epoch that a limit of steps cut off for one that goes on, in place.

    Lightning counts it as completed: a training whose limit is raised would begin another one.

    Args:
        checkpoint: As Lightning has read it.
    """
    loop = checkpoint["loops"]["fit_loop"]
    batches, epochs = loop["epoch_loop.batch_progress"], loop["epoch_progress"]
    if not was_cut_off(epochs["current"], batches["current"]["ready"], batches["is_last_batch"]):
        return
    for counts in _counts(epochs):
        for name in ("processed", "completed"):
            counts[name] -= 1


def was_cut_off(epochs: dict[str, int], batches_ready: int, is_last_batch: bool) -> bool:
    """Whether an epoch counts as completed in the midst of its batches.

    Example:
        >>> was_cut_off({"ready": 2, "completed": 2}, batches_ready=3, is_last_batch=False)
        True
        >>> was_cut_off({"ready": 2, "completed": 1}, batches_ready=3, is_last_batch=False)
        False
    """
    return batches_ready > 0 and not is_last_batch and epochs["completed"] == epochs["ready"]


def _counts(progress: dict[str, Any]) -> list[dict[str, int]]:
    return [counts for counts in progress.values() if isinstance(counts, dict)]
