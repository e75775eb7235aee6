"""One owner: a run folder is trained in by one process at a time."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from rnode_dyn.runs.errors import RunError
from rnode_dyn.runs.folder import RunFolder

_held: set[int] = set()


@contextmanager
def owned(folder: RunFolder) -> Iterator[None]:
    """Own a run folder until the end; it is made if need be.

    The kernel lets go of the lock of a process that is killed: who comes next takes it over.

    Raises:
        RunError: if another process owns it; the message says which, and since when.

    Example:
        >>> import tempfile
        >>> folder = RunFolder(Path(tempfile.mkdtemp()))
        >>> with owned(folder), owned(folder):
        ...     pass
        Traceback (most recent call last):
        rnode_dyn.runs.errors.RunError: ... is being trained in by process ... since ...
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    descriptor = _take(folder.lock, folder.path)
    _held.add(descriptor)
    try:
        yield
    finally:
        folder.lock.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)


def _take(path: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(descriptor)
            os.close(descriptor)
            raise RunError(
                f"{folder} is being trained in by {holder}: wait for its end, or give another "
                "--output."
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise RunError(
                f"{folder} cannot be locked ({error.strerror}), and without that two processes "
                "could train in it: give an --output on another file system."
            ) from error
        if _is_at(path, descriptor):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)  # its owner has just removed it: another one may lie there now


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Write down who owns the folder, and since when."""
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _read(descriptor: int) -> str:
    """Say who owns the folder, as far as the owner has come to write it down."""
    with suppress(ValueError, KeyError, TypeError):
        owner = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    return "another process"


def _let_go() -> None:
    """A worker that is forked shall not hold the lock when its parent has been killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
