"""A bound on the seconds that a solve may take."""

import time


class Deadline:
    """When a solve gives up.

    Args:
        seconds: From now; ``None`` for never.

    Example:
        >>> Deadline(None).has_passed, Deadline(1e-9).has_passed
        (False, True)
    """

    def __init__(self, seconds: float | None) -> None:
        self.at = None if seconds is None else time.monotonic() + seconds

    @property
    def has_passed(self) -> bool:
        """Whether the solve has taken too long."""
        return self.at is not None and time.monotonic() > self.at


def too_long(seconds: float | None) -> str:
    """What is said of a solve that took too long."""
    return (
        f"the end of the time span was not reached in {seconds:g} seconds: raise max_seconds, take "
        "longer steps or a looser tolerance, or go on from error.solution"
    )
