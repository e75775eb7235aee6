"""Data sets by name: what each is, how it is loaded, and which options it has no use for.

The module of a data set is imported when the set is first asked for.
"""

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnode_dyn.data.checksums import verify
from rnode_dyn.data.errors import DataError
from rnode_dyn.data.request import DataRequest

if TYPE_CHECKING:
    from rnode_dyn.data.splits import Event, Splits


@dataclass(frozen=True)
class DataSource:
    """A family of data sets under one name.

    Attributes:
        describe: What one sample will look like; reads as little as it can.
        load: The samples themselves.
        refuses: Options that cannot take effect, each with the reason.
        find: Raises `MissingDataError` where files are not there; `load` does it where this is
            left out.
    """

    describe: "Callable[[DataRequest], Event]"
    load: "Callable[[DataRequest], Splits]"
    refuses: Mapping[str, str] = field(default_factory=dict)
    find: Callable[[DataRequest], None] | None = None


_NO_COLUMNS = {"condition_columns": "its conditions are no columns of a table"}
_NO_LABELS = {"condition": "its samples have no labels here", **_NO_COLUMNS}
_IN_COLUMNS = {"condition": "its conditions are columns: write condition_columns"}
_NO_PICTURES = {"on_bad_file": "it reads no picture files one by one"}
_ONE = {"variant": "there is only one variant of it"}
_ONE_FILE = {"checksums": "root is its one file", "on_bad_file": "root is its one file"}
_NO_FILES = {"checksums": "it reads no files", **_NO_PICTURES}
_IMAGES = {"columns": "its samples are images", "standardize": "its samples are images"}
_GREY = {"channels": "its images are grey", **_IMAGES}
_COLOUR = {"channels": "its images have three colours", **_IMAGES}
_VECTORS = {
    "image_size": "its samples are no images",
    "levels": "its values are continuous",
    "channels": "its samples are no images",
    **_ONE,
}
_PLANE = {
    **_VECTORS,
    "columns": "its points have two",
    "standardize": "it has the scale of the figures in papers",
}

_SYNTHETIC = ("pinwheel", "checkerboard", "8gaussians", "spirals", "rings")


def _source_in(module: str, refuses: Mapping[str, str], *, finds: bool = False) -> DataSource:
    """The data set of a module in this package, which says whether its files are there if asked."""

    def calling(name: str) -> Callable[[DataRequest], Any]:
        return lambda request: getattr(import_module(f"rnode_dyn.data.{module}"), name)(request)

    find = calling("find") if finds else None
    return DataSource(calling("describe"), calling("load"), refuses, find)


DATA_SETS: dict[str, DataSource] = {
    "digits": _source_in("digits", {**_GREY, **_ONE, **_NO_FILES, **_NO_COLUMNS}),
    "moons": _source_in("synthetic", {**_PLANE, **_NO_FILES, **_NO_COLUMNS}),
    **{name: _source_in("synthetic", {**_PLANE, **_NO_FILES, **_NO_LABELS}) for name in _SYNTHETIC},
    "picture": _source_in("picture", {**_PLANE, **_ONE_FILE, **_NO_LABELS}),
    "mnist": _source_in("mnist", {**_GREY, **_ONE, **_NO_PICTURES, **_NO_COLUMNS}, finds=True),
    "cifar10": _source_in("cifar10", {**_COLOUR, **_ONE, **_NO_PICTURES, **_NO_LABELS}, finds=True),
    "svhn": _source_in("svhn", {**_COLOUR, **_ONE, **_NO_PICTURES, **_NO_LABELS}, finds=True),
    "celeba": _source_in("celeba", {**_COLOUR, **_ONE, **_NO_LABELS}, finds=True),
    "celebahq": _source_in("celebahq", {**_COLOUR, **_ONE, **_NO_LABELS}),
    "imagenet64": _source_in("imagenet64", {**_COLOUR, **_NO_LABELS}),
    "npy": _source_in("npy", {**_VECTORS, **_NO_PICTURES, **_IN_COLUMNS}),
    "folder": _source_in("folder", {**_IMAGES, **_ONE, **_NO_LABELS}),
    "fake": _source_in("fake", {**_IMAGES, **_ONE, **_NO_FILES, **_NO_LABELS}),
}


def load_data(
    name: str,
    *,
    root: str | Path = "data",
    image_size: int | None = None,
    levels: int | None = None,
    train_size: int | None = None,
    validation_size: int | None = None,
    test_size: int | None = None,
    channels: int | None = None,
    columns: int | None = None,
    variant: str | None = None,
    standardize: bool = False,
    checksums: Mapping[str, str] | None = None,
    seed: int = 0,
    on_bad_file: str = "refuse",
    condition: str | None = None,
    condition_columns: Sequence[int] = (),
) -> "Splits":
    """Load a data set.

    Args:
        name: One of `DATA_SETS`.
        root: The folder with its files, for those that have any; for `picture` an image file. A
            `~` in front is the home folder.
        image_size: Side of the square images; None: the data's own.
        levels: Values a pixel can take, at most as many as the data has; None: all of them.
        train_size: Training samples; None: all, or the data set's default where they are drawn.
        validation_size: The same for validation; 0: none.
        test_size: The same for test.
        channels: 1 or 3 for `folder`, any for `fake`.
        columns: How many columns `npy`'s files have to have; None: any.
        variant: Which published variant the files have to be; for `imagenet64`.
        standardize: Find what brings every column of `npy` to the training rows' mean 0 and
            deviation 1, for the flow to begin with: the splits' `scaling`. The rows stay as they
            are.
        checksums: For files, relative to root, `md5:`, `sha256:` or `images:` and hexadecimal
            digits, which are compared with what is found.
        seed: What `fake` and the 2-D sets are drawn from. All others ignore it: their splits and
            subsets are the same in every run, so that runs can be compared.
        on_bad_file: What becomes of a picture file that cannot be read, or not rightly: "refuse",
            or "skip", which looks at all of them first, leaves out up to one in a hundred, and
            warns of them by name; for folders of pictures.
        condition: "label": what samples are conditional on is the class that each is labelled
            with, of `digits` and `mnist` the digit, of `moons` which moon; the splits'
            `conditions`.
        condition_columns: Columns of `npy` that are no part of a sample but what it is conditional
            on, counted from 0.

    Raises:
        MissingDataError: The files are not there; the message says how to get them.
        DataError: There is no such data set, an option cannot be met, or a file is damaged or
            another than its checksum says.

    >>> splits = load_data("digits")
    >>> splits.event_shape, splits.levels, len(splits.train), len(splits.test)
    ((1, 8, 8), 17, 1297, 300)
    """
    request = DataRequest(
        name,
        _home_expanded(root),
        image_size=image_size,
        levels=levels,
        train_size=train_size,
        # What a set keeps from its training samples, it keeps also where that is not read.
        validation_size=1 if validation_size == 0 else validation_size,
        test_size=test_size,
        channels=channels,
        columns=columns,
        variant=variant,
        standardize=standardize,
        checksums=checksums or {},
        seed=seed,
        on_bad_file=on_bad_file,
        condition=condition,
        condition_columns=tuple(condition_columns),
    )
    source = _source(request)
    with _naming_what_cannot_be_read():
        if source.find is not None:
            source.find(request)
        verify(request.root, request.checksums)
        splits = source.load(request)
    return _without_validation(splits) if validation_size == 0 else splits


def _without_validation(splits: "Splits") -> "Splits":
    from rnode_dyn.data.splits import TensorSplit

    return replace(splits, validation=TensorSplit(splits.validation.head(1)[:0]))


def describe_data(
    name: str,
    *,
    root: str | Path = "data",
    image_size: int | None = None,
    levels: int | None = None,
    channels: int | None = None,
    columns: int | None = None,
    variant: str | None = None,
    on_bad_file: str = "refuse",
    condition: str | None = None,
    condition_columns: Sequence[int] = (),
) -> "Event":
    """What a sample of a data set looks like; most data sets need not be there to tell.

    Args:
        name: One of `DATA_SETS`.
        root: The folder with its files; read for `npy` without columns, and for `folder` without
            an image_size.
        image_size: As for `load_data`.
        levels: As for `load_data`.
        channels: As for `load_data`.
        columns: As for `load_data`.
        variant: As for `load_data`.
        on_bad_file: As for `load_data`.
        condition: As for `load_data`.
        condition_columns: As for `load_data`.

    >>> describe_data("mnist", image_size=14)
    Event(shape=(1, 14, 14), levels=256)
    """
    request = DataRequest(
        name,
        _home_expanded(root),
        image_size=image_size,
        levels=levels,
        channels=channels,
        columns=columns,
        variant=variant,
        on_bad_file=on_bad_file,
        condition=condition,
        condition_columns=tuple(condition_columns),
    )
    source = _source(request)
    with _naming_what_cannot_be_read():
        return source.describe(request)


def _home_expanded(root: str | Path) -> Path:
    return Path(os.path.expanduser(root))


@contextmanager
def _naming_what_cannot_be_read() -> Iterator[None]:
    """Say of a file that the system does not let be read which one it is."""
    try:
        yield
    except OSError as error:
        name, reason = error.filename or "a file of the data", error.strerror or str(error)
        raise DataError(f"{name} cannot be read ({reason}): let this user read it.") from error


def _source(request: DataRequest) -> DataSource:
    if request.name not in DATA_SETS:
        near = difflib.get_close_matches(request.name, DATA_SETS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DataError(
            f"There is no data set {request.name!r}: write one of {', '.join(DATA_SETS)}.{hint}"
        )
    source = DATA_SETS[request.name]
    for option, reason in source.refuses.items():
        given = getattr(request, option)
        if given and given != getattr(DataRequest, option, None):  # none of them can be 0
            raise DataError(
                f"{option} = {given} has no effect on {request.name}, for {reason}: leave it out."
            )
    return source
