"""What our checkpoints keep beside Lightning's: all that a run needs to go on as if never left."""

from typing import Any

_KEY = "rnode_dyn_resume"


def keep_beside(checkpoint: dict[str, Any], kept: dict[str, Any]) -> None:
    """Put plain values and tensors into a checkpoint.

    Example:
        >>> checkpoint = {"global_step": 3}
        >>> keep_beside(checkpoint, {"rows": 7})
        >>> kept_beside(checkpoint)["rows"], kept_beside({"global_step": 3})
        (7, {})
    """
    checkpoint[_KEY] = kept


def kept_beside(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept; nothing in a checkpoint of an older version."""
    return checkpoint.get(_KEY, {})
