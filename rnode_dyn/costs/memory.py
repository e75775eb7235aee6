"""How much memory a device has to give at this moment."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def available_bytes(device: torch.device) -> int | None:
    """Return what a device has to give; ``None`` where the system does not tell.

    Example:
        >>> available_bytes(torch.device("meta")) is None
        True
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_of_host(), default=None) if device.type == "cpu" else None


def _of_host() -> Iterator[int]:
    """What the machine has left, and what the limit of the container leaves."""
    with suppress(OSError, ValueError, AttributeError, KeyError):
        yield _in_meminfo() or os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in _LIMITS:
        with suppress(OSError, ValueError):  # no such limit: the file is absent, or says "max"
            yield max(0, _number_in(_CGROUP / limit) - _number_in(_CGROUP / used))


def _in_meminfo() -> int | None:
    """What Linux says can be had without swapping: free memory, and caches that can go."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((1024 * int(kilobytes) for kilobytes in found), None)


def _number_in(path: Path) -> int:
    return int(path.read_text())
