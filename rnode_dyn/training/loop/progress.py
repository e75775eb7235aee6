"""Lightning's count of batches, for a training that goes on in other parts."""

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
    for counts in progress.values():
        if isinstance(counts, dict):
            counts.update({name: n // before * accumulate for name, n in counts.items()})
