"""How long a training took, interruptions left out."""

import time


class Clock:
    """A stopwatch, standing still until it is started.

    Args:
        seconds: What it shows at first.

    Example:
        >>> clock = Clock(12.0)
        >>> clock.seconds
        12.0
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds that it ran."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    def start(self) -> None:
        """Run on."""
        self._before, self._started = self.seconds, time.monotonic()

    def pause(self) -> None:
        """Stand still until it is started again."""
        self._before, self._started = self.seconds, None
