"""`celeba`: 202,599 faces, their middle 148×148 pixels, split as the official partition says."""

import os
from collections.abc import Mapping
from pathlib import Path

from torchvision.datasets import CelebA

from rnode_dyn.data.choosing import choose
from rnode_dyn.data.errors import DataError
from rnode_dyn.data.finding import sound
from rnode_dyn.data.images import square_event
from rnode_dyn.data.missing import require_files, torchvision_download
from rnode_dyn.data.pictures import split_of_pictures
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Split, Splits

# Of the 178×218 pixels of an aligned picture, as usual since Larsen et al. (2016).
CROP = 148

_PICTURES, _PARTITION = "img_align_celeba", "list_eval_partition.txt"
_PART_OF = {"0": "train", "1": "validation", "2": "test"}


def describe(request: DataRequest) -> Event:
    """One face: (3, 148, 148) with 256 levels, unless the request says otherwise."""
    return square_event(request, channels=3, own_size=CROP, own_levels=256)


def find(request: DataRequest) -> None:
    """Check that the pictures' folder and the partition are there.

    torchvision's own class would want four more lists, of which none is used here.
    """
    root, base = request.root, CelebA.base_folder
    folder = root / base
    steps = (
        f"Either let torchvision download it (it wants `pip install gdown`, and Google Drive "
        f"refuses it on busy days) with\n"
        f"{torchvision_download(f'CelebA({str(root)!r}, download=True)')}\n"
        f"or get img_align_celeba.zip and {_PARTITION} from "
        f"https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Align&Cropped Images; Eval), put "
        f"both into {folder} and unzip the first there, or set root to the folder that has "
        f"{base} in it."
    )
    require_files(request, [f"{base}/{_PICTURES}", f"{base}/{_PARTITION}"], steps)


def load(request: DataRequest) -> Splits:
    """The official partition: 162,770 faces to train on, 19,867 to validate, 19,962 to test."""
    event = describe(request)
    folder = request.root / CelebA.base_folder
    names = _partition(folder / _PARTITION)
    _check_pictures(folder / _PICTURES, names)
    listed = {
        split: [str(folder / _PICTURES / name) for name in names[split]] for split in SPLIT_NAMES
    }
    paths = sound(request, listed)

    def part(split: str) -> Split:
        chosen = [paths[split][i] for i in choose(request, split, len(paths[split]))]
        return split_of_pictures(chosen, event, request.image_size, CROP)

    train, validation, test = map(part, SPLIT_NAMES)
    return Splits(event, train, validation, test)


def _partition(path: Path) -> dict[str, list[str]]:
    """The file names of each split."""
    names: dict[str, list[str]] = {split: [] for split in SPLIT_NAMES}
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            name, part = line.split()
            names[_PART_OF[part]].append(name)
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{path} is no partition, which has lines such as `000001.jpg 0`: get it anew."
        ) from error
    return names


def _check_pictures(folder: Path, names: Mapping[str, list[str]]) -> None:
    there = set(os.listdir(folder))  # 200,000 names, not as many Path objects
    listed = [name for part in names.values() for name in part]
    missing = [name for name in listed if name not in there]
    if missing:
        raise DataError(
            f"celeba lists {len(listed):,} pictures and {len(missing):,} of them are not in "
            f"{folder}, such as {missing[0]}: unzip img_align_celeba.zip there anew."
        )
