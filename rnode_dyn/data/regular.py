"""Whether a path leads to a file that can be opened, and how a message writes a path."""

import os
import stat
from pathlib import Path

from rnode_dyn.data.errors import DataError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


def check_regular(path: str | Path, what: str) -> None:
    """Refuse what is no file, before opening it: to open a pipe is to wait for a writer.

    Args:
        path: What is to be opened.
        what: What it is named as, such as "a picture".

    Raises:
        DataError: It is not there, or is a folder, a pipe, a device.

    >>> check_regular("/", "an array")
    Traceback (most recent call last):
    rnode_dyn.data.errors.DataError: / is a folder, and has the name of an array: remove or ...
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)} cannot be read ({_why(path, error)}).") from error
    if not stat.S_ISREG(mode):
        found = next((kind for is_it, kind in _KINDS if is_it(mode)), "no file")
        raise DataError(
            f"{shown(path)} is {found}, and has the name of {what}: remove or rename it."
        )
    if not os.access(path, os.R_OK):
        raise DataError(f"{shown(path)} may not be read by this user: let it, or remove the file.")


def shown(path: str | Path) -> str:
    r"""A path as a message has it: on one line, and of letters that can be written.

    >>> shown("a\nb.png")
    'a\\nb.png'
    """
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _why(path: str | Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError) and os.path.islink(path):
        return f"it is a link to {shown(os.readlink(path))}, which is not there: mend or remove it"
    return getattr(error, "strerror", None) or str(error)
