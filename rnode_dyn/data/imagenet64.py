"""`imagenet64`: ImageNet at 64×64 pixels, as folders of pictures or as the official .npz batches.

Two variants are published, and likelihoods on one say nothing about the other: that of van den
Oord et al. (2016, PixelRNN), which the flow papers report, and the box-downsampled one of
Chrabaszcz et al. (2017), in batches. Their numbers of pictures differ, and tell which one it is.
"""

from rnode_dyn.data.choosing import choose
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.finding import pictures_below, sound
from rnode_dyn.data.folder import mixed
from rnode_dyn.data.images import square_event
from rnode_dyn.data.mapped import MappedSplit
from rnode_dyn.data.npz_batches import ARCHIVES, BATCHES, find_batches, unpacked
from rnode_dyn.data.pictures import split_of_pictures
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import SPLIT_NAMES, Event, Split, Splits

# Training and official validation pictures of each variant; the latter are our test split.
VARIANTS = {"oord2016": (1_281_149, 49_999), "chrabaszcz2017": (1_281_167, 50_000)}
VALIDATION = 5_000  # held out from the end of the training set

_TRAIN_FOLDERS = ("train", "train_64x64")
_TEST_FOLDERS = ("val", "valid", "valid_64x64", "test")


def describe(request: DataRequest) -> Event:
    """One picture: (3, 64, 64) with 256 levels, unless the request says otherwise."""
    if request.variant is not None and request.variant not in VARIANTS:
        raise DataError(
            f"variant = {request.variant!r} is none of imagenet64: write "
            f"{' or '.join(VARIANTS)}, or leave it out to have it unchecked."
        )
    return square_event(request, channels=3, own_size=64, own_levels=256)


def load(request: DataRequest) -> Splits:
    """All but 5,000 training pictures to train on, those to validate, the official rest to test.

    The validation pictures are the training set's last: of the batches as they are, of the folder
    in a fixed mixed order. The batches are unpacked once into .npy files beside them.
    """
    event = describe(request)
    find = _from_batches if find_batches(request.root) else _from_folders
    train, validation, test = find(request, event)
    return Splits(event, train, validation, test)


def _from_batches(request: DataRequest, event: Event) -> list[Split]:
    if request.on_bad_file == "skip":
        raise DataError(
            f'on_bad_file = "skip" leaves out picture files, and {request.root} has batches: leave '
            f"it out."
        )
    counts, paths = {}, {}
    for part in BATCHES:
        paths[part], counts[part] = unpacked(request.root, part)
    _check_counts(request, counts["train"], counts["test"])
    return [
        MappedSplit(paths["test" if split == "test" else "train"], rows, event)
        for split, rows in _rows(request, counts["train"], counts["test"]).items()
    ]


def _from_folders(request: DataRequest, event: Event) -> list[Split]:
    found = {
        "train": _pictures(request, _TRAIN_FOLDERS),
        "test": _pictures(request, _TEST_FOLDERS),
    }
    _check_counts(request, len(found["train"]), len(found["test"]))
    kept = sound(request, found)
    train, test = mixed(kept["train"]), kept["test"]

    def part(split: str, rows: list[int]) -> Split:
        paths = test if split == "test" else train
        return split_of_pictures([paths[row] for row in rows], event, event.shape[-1])

    return [part(*item) for item in _rows(request, len(train), len(test)).items()]


def _rows(request: DataRequest, train: int, test: int) -> dict[str, list[int]]:
    """Which of the training or test pictures each split takes."""
    if train <= VALIDATION:
        raise DataError(
            f"imagenet64 keeps {VALIDATION:,} training pictures for validation, and "
            f'{request.root} has {train:,}: write dataset = "folder" for so few.'
        )
    starts = {"train": 0, "validation": train - VALIDATION, "test": 0}
    sizes = {"train": train - VALIDATION, "validation": VALIDATION, "test": test}
    return {
        split: [starts[split] + row for row in choose(request, split, sizes[split])]
        for split in SPLIT_NAMES
    }


def _check_counts(request: DataRequest, train: int, test: int) -> None:
    """Refuse pictures whose numbers are not those of the variant that the request names."""
    if request.variant is None or (train, test) == VARIANTS[request.variant]:
        return
    found = next((name for name, sizes in VARIANTS.items() if sizes == (train, test)), None)
    expected = "{:,} training and {:,} test pictures".format(*VARIANTS[request.variant])
    mend = f"write variant = {found!r}" if found else "complete the files, or leave variant out"
    raise DataError(
        f"imagenet64 found {train:,} training and {test:,} test pictures in {request.root}, and "
        f"variant = {request.variant!r} has {expected}: {mend}."
    )


def _pictures(request: DataRequest, folders: tuple[str, ...]) -> list[str]:
    for name in folders:
        if paths := pictures_below(request.root / name):
            return paths
    root = request.root
    raise MissingDataError(
        f"imagenet64 finds no pictures in {root}/{folders[0]} (or {', '.join(folders[1:])}), and "
        f"no .npz batches in {root}. For variant chrabaszcz2017 log in at "
        f"https://image-net.org/download-images, get {', '.join(ARCHIVES)}, and unzip their "
        f"{BATCHES['train'][0]} … {BATCHES['train'][-1]} and {BATCHES['test'][0]} into {root}. "
        f"For variant oord2016 unpack train_64x64.tar and valid_64x64.tar there, which "
        f"image-net.org/small had and has no longer: you need somebody's copy. Or set root to "
        f"the folder that has the one or the other."
    )
