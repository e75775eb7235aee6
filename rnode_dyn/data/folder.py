"""`folder`: pictures of one's own under root/train, root/test and, if there is one, validation."""

from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from rnode_dyn.data.choosing import choose, fixed_order
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.finding import pictures_below, sound
from rnode_dyn.data.pictures import MODES, read_opaque, split_of_pictures
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Splits

_VALIDATION_FOLDERS = ("validation", "val")


def describe(request: DataRequest) -> Event:
    """One picture; without an image_size all have to have the same size."""
    channels = request.channels or 3
    if channels not in MODES:
        raise DataError(f"channels = {channels} cannot be decoded: write 1 (grey) or 3 (RGB).")
    height, width = request.image_size, request.image_size
    if height is None or width is None:
        width, height = _first_size(request, mixed(_pictures(request, "train")))
    return Event((channels, height, width), request.levels_within(256))


def load(request: DataRequest) -> Splits:
    """The pictures of the folders; decoded once if they are few, else batch by batch."""
    return load_as(request, describe(request), request.image_size)


def load_as(request: DataRequest, event: Event, image_size: int | None) -> Splits:
    """The pictures of the folders, as an event that another data set describes."""
    train, validation, test = (
        split_of_pictures(paths, event, image_size) for paths in _chosen_paths(request)
    )
    return Splits(event, train, validation, test)


def mixed(paths: list[str]) -> list[str]:
    """The paths in a mixed order that never changes.

    Sorted they would lie class by class, and the first ones would speak for one class only.
    """
    return [paths[i] for i in fixed_order(len(paths))]


def _first_size(request: DataRequest, paths: list[str]) -> tuple[int, int]:
    """Width and height of the first picture, or of the first sound one if bad ones are left out."""
    for path in paths[:-1]:
        try:
            return read_opaque(path).image.size
        except DataError:
            if request.on_bad_file != "skip":
                raise
    return read_opaque(paths[-1]).image.size


def _chosen_paths(request: DataRequest) -> list[list[str]]:
    folders = {"train": "train", "test": "test"}
    validation = _validation_folder(request.root)
    if validation is not None:
        folders["validation"] = validation
    found = {split: _pictures(request, folder) for split, folder in folders.items()}
    paths = {split: mixed(pictures) for split, pictures in sound(request, found).items()}
    if validation is None:
        paths["train"], paths["validation"] = _held_out(request, paths["train"])
    return [
        [paths[split][i] for i in choose(request, split, len(paths[split]))]
        for split in SPLIT_NAMES
    ]


def _validation_folder(root: Path) -> str | None:
    return next((name for name in _VALIDATION_FOLDERS if (root / name).is_dir()), None)


def _held_out(request: DataRequest, paths: list[str]) -> tuple[list[str], list[str]]:
    """Training pictures, and some kept from them: as many as asked for, else a tenth."""
    held = request.validation_size or max(1, len(paths) // 10)
    if held >= len(paths):
        raise DataError(
            f"{request.name} cannot keep {held} of {len(paths)} training pictures for validation: "
            f"write a smaller validation_size, or add pictures to {request.root / 'validation'}."
        )
    return paths[held:], paths[:held]


def _pictures(request: DataRequest, folder: str) -> list[str]:
    """The image files in and below a folder."""
    pictures = pictures_below(request.root / folder)
    if not pictures:
        raise MissingDataError(
            f"{request.name} finds no pictures in {request.root / folder}: lay them out as "
            f"{request.root}/train/… and {request.root}/test/… (folders of classes inside are "
            f"fine; {' '.join(IMG_EXTENSIONS)}), or set root to the folder that has them."
        )
    return pictures
