"""``metrics.csv`` on the disk: whole lines, one behind the other."""

import csv
import io
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from rnode_dyn.runs.durable import sync_folder, write_whole
from rnode_dyn.runs.errors import SaveError

_SECONDS_BETWEEN_SYNCS = 1.0


class MetricsFile:
    """Appends rows of figures, each with one write; a figure of a new name widens the table.

    Args:
        path: The file.

    Example:
        >>> import tempfile
        >>> file = MetricsFile(Path(tempfile.mkdtemp()) / "metrics.csv")
        >>> file.append({"step": 0, "loss": 2.5})
        >>> file.append({"step": 1, "loss": 2.0})
        >>> file.keep(1)
        >>> file.append({"step": 1, "held_out": 2.25})
        >>> print(file.path.read_text())
        held_out,loss,step
        ,2.5,0
        2.25,,1
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._columns: list[str] = []
        self._descriptor: int | None = None
        self._synced = time.monotonic()

    def append(self, row: Mapping[str, float]) -> None:
        """Write a row behind the others.

        Raises:
            SaveError: if it cannot be written.
        """
        try:
            if not set(row) <= set(self._columns):
                self._widen(row)
            self._write(_line([row.get(name, "") for name in self._columns]))
        except OSError as error:
            raise SaveError(f"{self.path} cannot be written ({error.strerror}).") from error
        self.rows += 1

    def keep(self, rows: int) -> None:
        """Go on behind so many rows: what comes after them will be written again."""
        self.close()
        header, lines = whole_lines(self.path)
        self._columns, self.rows = header, min(rows, len(lines))
        if header:
            write_whole(self.path, b"".join([_line(header), *lines[: self.rows]]))

    def sync(self, now: bool = True) -> None:
        """Let the rows reach the disk; where that need not be now, at most once a second."""
        waits = not now and time.monotonic() - self._synced < _SECONDS_BETWEEN_SYNCS
        if self._descriptor is not None and not waits:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Write no more, for now."""
        if self._descriptor is not None:
            self.sync()
            os.close(self._descriptor)
            self._descriptor = None

    def _widen(self, row: Mapping[str, float]) -> None:
        """Give the table more columns: all of it is written anew, and then takes its place."""
        self.close()
        header, lines = whole_lines(self.path)
        self._columns = sorted({*self._columns, *row})
        fields = (dict(zip(header, _fields(line), strict=False)) for line in lines)
        wider = (_line([row.get(name, "") for name in self._columns]) for row in fields)
        write_whole(self.path, b"".join([_line(self._columns), *wider]))

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            sync_folder(self.path.parent)
        written = os.write(self._descriptor, line)
        if written < len(line):  # the next try says why
            os.write(self._descriptor, line[written:])


def whole_lines(path: Path) -> tuple[list[str], list[bytes]]:
    """Return a table's header, and its other lines as they are; a torn last one is left out."""
    if not path.is_file():
        return [], []
    *lines, _ = path.read_bytes().split(b"\n")
    if not lines:
        return [], []
    return _fields(lines[0]), [line + b"\n" for line in lines[1:]]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a table, each with the figures that it has.

    A line with more or fewer fields than the header is damaged, and left out.
    """
    header, lines = whole_lines(path)
    rows = (_fields(line) for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


def _line(fields: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(fields)
    return text.getvalue().encode()


def _fields(line: bytes) -> list[str]:
    try:
        return next(csv.reader([line.decode(errors="replace").rstrip("\r\n")]), [])
    except csv.Error:  # a field that is longer than the module reads
        return []
