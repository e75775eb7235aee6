"""Picture files below a folder: found through links, in an order of their own, sound or not."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from rnode_dyn.data.errors import DataError, DataWarning
from rnode_dyn.data.pictures import read_opaque
from rnode_dyn.data.regular import shown
from rnode_dyn.data.request import DataRequest

# Of the files of a data set so many may be left out; more are no accident.
_LARGEST_PART = 0.01
_NAMED = 10
_AT_A_TIME = 4096


def pictures_below(folder: Path) -> list[str]:
    """The image files in and below a folder, sorted; hidden ones are none.

    Folders that are links are looked into as well, each folder once, and none that the link lies
    in. What has the name of a picture counts as one, a folder or a pipe too: reading refuses it.
    """
    if not folder.is_dir():
        return []
    # Text, for a million Path objects would fill a gigabyte.
    return sorted(
        os.path.join(place, name)
        for place, names in _folders(str(folder))
        for name in names
        if _is_named_as_picture(name)
    )


def _folders(top: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder once, and the names in it; links come after the folders that lie there."""
    seen: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        for place, folders, names in os.walk(waiting.pop(0), onerror=_refuse):
            found = os.stat(place)
            if (found.st_dev, found.st_ino) in seen:
                folders.clear()
                continue
            seen.add((found.st_dev, found.st_ino))
            pictures = [name for name in folders if _is_named_as_picture(name)]
            folders[:] = sorted(set(folders).difference(pictures))
            paths = [os.path.join(place, name) for name in folders]
            waiting += [path for path in paths if os.path.islink(path) and not _is_loop(path)]
            yield place, [*names, *pictures]


def _is_named_as_picture(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def _is_loop(link: str) -> bool:
    """Whether a link leads to a folder that it lies in."""
    return Path(os.path.realpath(os.path.dirname(link))).is_relative_to(os.path.realpath(link))


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{shown(error.filename)} cannot be looked into ({error.strerror}): let this user read it, "
        f"or remove it."
    ) from error


def sound(request: DataRequest, parts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The pictures of each part that can be read, where the request leaves bad ones out.

    They are looked at before a split is made, so that everything is as if the bad ones had never
    been there: order, batches, and the samples that are held out. It takes as long as decoding
    all pictures once.

    Args:
        request: With `on_bad_file = "skip"`; else the pictures are what they are, unread.
        parts: Paths by the name of their part.

    Raises:
        DataError: More than one file in a hundred is bad, or all of a part.
    """
    if request.on_bad_file != "skip":
        return {name: list(paths) for name, paths in parts.items()}
    reasons = {name: _reasons(paths) for name, paths in parts.items()}
    _tell(request, [reason for part in reasons.values() for reason in part])
    return {name: _without_bad(name, paths, reasons[name]) for name, paths in parts.items()}


def _tell(request: DataRequest, reasons: list[str | None]) -> None:
    """Warn of the bad files by name, or refuse where they are many."""
    bad = [reason for reason in reasons if reason]
    if not bad:
        return
    few = len(bad) <= _LARGEST_PART * len(reasons)
    named = "\n  ".join(bad[:_NAMED])
    said = (
        f"{len(bad):,} of {len(reasons):,} picture files of {request.name} in "
        f"{shown(request.root)} cannot be used"
    )
    which = "" if len(bad) <= _NAMED else f", the first {_NAMED}"
    if few:
        warnings.warn(f"{said} and are left out{which}:\n  {named}", DataWarning, stacklevel=2)
    else:
        raise DataError(
            f'{said}, more than one in a hundred, which on_bad_file = "skip" does not leave out: '
            f"mend or remove them{which}:\n  {named}"
        )


def _without_bad(part: str, paths: Sequence[str], reasons: list[str | None]) -> list[str]:
    kept = [path for path, reason in zip(paths, reasons, strict=True) if reason is None]
    if paths and not kept:
        raise DataError(f"no picture of {part} is left once bad ones are left out: {reasons[0]}")
    return kept


def _reasons(paths: Sequence[str]) -> list[str | None]:
    """For every picture why it cannot be read, or None."""
    reasons: list[str | None] = []
    left = iter(paths)
    with ThreadPoolExecutor() as pool:
        while chunk := list(islice(left, _AT_A_TIME)):  # not a million tasks at once
            reasons += pool.map(_reason, chunk)
    return reasons


def _reason(path: str) -> str | None:
    try:
        read_opaque(path)
    except DataError as error:
        return str(error)
    return None
