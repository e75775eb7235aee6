"""What is asked of a data set: its name, where its files lie, and the options that change it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rnode_dyn.data.errors import DataError

_AT_LEAST = {
    "image_size": 1,
    "levels": 2,
    "channels": 1,
    "columns": 1,
    "train_size": 1,
    "validation_size": 1,
    "test_size": 1,
    "seed": 0,
}

_ON_BAD_FILE = ("refuse", "skip")


@dataclass(frozen=True)
class DataRequest:
    """The arguments of `load_data` in one object; None leaves an option to the data set."""

    name: str
    root: Path
    image_size: int | None = None
    levels: int | None = None
    train_size: int | None = None
    validation_size: int | None = None
    test_size: int | None = None
    channels: int | None = None
    columns: int | None = None
    variant: str | None = None
    standardize: bool = False
    checksums: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    on_bad_file: str = "refuse"
    condition: str | None = None
    condition_columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for option, least in _AT_LEAST.items():
            given = getattr(self, option)
            if given is not None and given < least:
                raise DataError(
                    f"{option} = {given} is too small for {self.name}: write {least} or more."
                )
        if self.on_bad_file not in _ON_BAD_FILE:
            known = " or ".join(map(repr, _ON_BAD_FILE))
            raise DataError(f"on_bad_file = {self.on_bad_file!r} says nothing: write {known}.")
        if self.condition not in (None, "label"):
            raise DataError(f'condition = {self.condition!r} is no condition: write "label".')
        if "\0" in str(self.root):
            raise DataError(f"root = {str(self.root)!r} has a NUL in it, which no path can have.")

    def size_of(self, split: str) -> int | None:
        """The number of samples asked for in one split."""
        return getattr(self, f"{split}_size")

    def levels_within(self, own: int) -> int:
        """The number of levels to quantize to, given how many the data has of its own."""
        if self.levels is None:
            return own
        if self.levels > own:
            raise DataError(
                f"levels = {self.levels} is more than the {own} levels that {self.name} has: "
                f"write levels = {own} or fewer."
            )
        return self.levels
