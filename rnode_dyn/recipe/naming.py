"""What may be a recipe's name: it becomes part of a folder's, on any system."""

import re

_LONGEST = 100  # in bytes: a time is put behind it, and 255 are the limit
_NOT_IN_FILE_NAMES = '/\\<>:"|?*'
_PORTS = [f"{port}{number}" for port in ("com", "lpt") for number in range(10)]
_DEVICES = {"con", "prn", "aux", "nul", *_PORTS}
_FALLBACK = "my-recipe"


def fault_in(name: str) -> str:
    """What keeps a text from being a recipe's name, in words; nothing if it may be one.

    Example:
        >>> fault_in("../../evil")
        "'/' cannot be part of a name"
        >>> fault_in("two-moons")
        ''
    """
    wrong = next((c for c in name if c in _NOT_IN_FILE_NAMES or not c.isprintable()), None)
    if not name.strip():
        return "a name has to have letters"
    if wrong is not None:
        return f"{wrong!r} cannot be part of a name"
    if name.startswith((".", "~", "-")):
        return f"a name cannot begin with {name[0]!r}"
    if name != name.strip() or name.endswith("."):
        return "a name cannot begin or end with a space, or end with a dot"
    if len(name.encode()) > _LONGEST:
        return f"a name has no more than {_LONGEST} bytes, and this has {len(name.encode())}"
    if name.partition(".")[0].strip().lower() in _DEVICES:
        return "Windows keeps that name for a device"
    return ""


def nearest_right(name: str) -> str:
    """A name that is right, and as like as can be.

    Example:
        >>> nearest_right("../../evil"), nearest_right(" my run: 2 "), nearest_right("con")
        ('evil', 'my run-2', 'con-1')
    """
    kept = "".join(c if c.isprintable() and c not in _NOT_IN_FILE_NAMES else "/" for c in name)
    # Parts of nothing but dots and spaces say where, not what.
    parts = [part.strip(". ") for part in kept.split("/")]
    near = "-".join(part for part in parts if part).lstrip("~.- ")
    near = near.encode()[: _LONGEST - 2].decode(errors="ignore").rstrip(". ")
    if near.partition(".")[0].strip().lower() in _DEVICES:
        near = re.sub(r"^[^.]*", lambda device: f"{device[0].strip()}-1", near)
    return near or _FALLBACK
