"""Signals that ask a training to end: it saves where it is first, and says how to go on."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_STATUS = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 143}
_SECONDS_FOR_WORKERS = 10


class Interrupted(KeyboardInterrupt):
    """A run that was asked to end, by SIGINT, SIGTERM or SIGUSR1.

    Attributes:
        status: What a command ends with.
    """

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(
            f"interrupted by {name}; what was trained is saved, go on by: "
            f"rnode-dyn run --resume {folder}"
        )
        self.status = _STATUS[name]


class Stop:
    """Whether a run has been asked to end.

    The first signal lets a training finish its step and save; where nothing trains, it ends the
    run at once, and so does a second one anywhere.

    Args:
        tell: Takes a sentence for the person who sent the signal.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.asked_by: str | None = None
        self.saves = False
        self._tell, self._owner = tell, os.getpid()

    def listen(self) -> None:
        """Hear the signals; Lightning's trainer takes SIGTERM for itself when it begins."""
        if threading.current_thread() is threading.main_thread():
            for name in _STATUS:
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            _outlive(number)
            return
        if self.asked_by is not None:
            os._exit(_STATUS[self.asked_by])  # at once: all that is saved is whole
        self.asked_by = signal.Signals(number).name
        if not self.saves:
            raise KeyboardInterrupt
        self._tell(
            f"{self.asked_by}: this step is finished and saved, and then the run ends; a second "
            "signal ends it at once"
        )


@contextmanager
def stoppable(tell: Callable[[str], None]) -> Iterator[Stop]:
    """Hear signals, and in the end leave them to whom they were left before."""
    stop, before = Stop(tell), _handlers()
    stop.listen()
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _handlers() -> dict[str, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    names = [name for name in _STATUS if hasattr(signal, name)]
    return {name: signal.getsignal(getattr(signal, name)) for name in names}


def _outlive(number: int) -> None:
    """In a worker: go on reading for a while, so that the training can finish its step."""
    if number == signal.SIGTERM:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS_FOR_WORKERS)
