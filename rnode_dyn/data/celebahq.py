"""`celebahq`: 30,000 faces as a folder of pictures, 256×256 pixels; split by their names."""

from rnode_dyn.data import folder
from rnode_dyn.data.choosing import choose, last_tenths
from rnode_dyn.data.errors import MissingDataError
from rnode_dyn.data.finding import pictures_below, sound
from rnode_dyn.data.images import square_event
from rnode_dyn.data.pictures import split_of_pictures
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Split, Splits

_SIZE = 256


def describe(request: DataRequest) -> Event:
    """One face: (3, 256, 256) with 256 levels, unless the request says otherwise."""
    return square_event(request, channels=3, own_size=_SIZE, own_levels=256)


def load(request: DataRequest) -> Splits:
    """Folders train and test, if they are there; else all pictures, in the order of their names.

    Of 30,000 pictures the last 3,000 test, as usual, and of the other 27,000 the last 2,700
    validate. Pictures of another size are resized.
    """
    event = describe(request)
    if (request.root / "train").is_dir():
        return folder.load_as(request, event, event.shape[-1])
    paths = pictures_below(request.root)
    if not paths:
        raise MissingDataError(
            f"celebahq finds no pictures in {request.root}. Get CelebAMask-HQ.zip from "
            f"https://github.com/switchablenorms/CelebAMask-HQ, and copy its folder "
            f"CelebA-HQ-img (30,000 .jpg, 1024×1024 pixels) to {request.root}, better resized to "
            f"{_SIZE}×{_SIZE} than to be resized in every epoch; or set root to a folder of such "
            f"pictures, or to one with train and test in it."
        )
    paths = sound(request, {"celebahq": paths})["celebahq"]
    rows = last_tenths(len(paths))

    def part(split: str) -> Split:
        chosen = [paths[rows[split][i]] for i in choose(request, split, len(rows[split]))]
        return split_of_pictures(chosen, event, event.shape[-1])

    train, validation, test = map(part, SPLIT_NAMES)
    return Splits(event, train, validation, test)
