"""How many images an epoch has, and how long one takes."""

from rnode_dyn.data import synthetic
from rnode_dyn.recipe.schema import DataRecipe

# Training images of the data sets that have a number of their own, the files read or not.
_KNOWN = {
    "digits": 1_297,
    "mnist": 55_000,
    "cifar10": 45_000,
    "svhn": 68_257,
    "celeba": 162_770,
    "celebahq": 24_300,
    "fake": 512,
    "picture": 50_000,
    **dict.fromkeys(synthetic.DRAWS, 10_000),
}

# Validation and test samples likewise.
_HELD_OUT = {
    "digits": (200, 300),
    "mnist": (5_000, 10_000),
    "cifar10": (5_000, 10_000),
    "svhn": (5_000, 26_032),
    "celeba": (19_867, 19_962),
    "celebahq": (2_700, 3_000),
    "picture": (2_000, 5_000),
    **dict.fromkeys(synthetic.DRAWS, (1_000, 2_000)),
}


def train_size(data: DataRecipe) -> int | None:
    """Return how many samples an epoch has; ``None`` where only the files can tell.

    Example:
        >>> train_size(DataRecipe(dataset="mnist")), train_size(DataRecipe(dataset="npy"))
        (55000, None)
    """
    return data.train_size or _KNOWN.get(data.dataset)


def held_out_sizes(data: DataRecipe) -> tuple[int, int] | None:
    """Return the sizes of validation and test; ``None`` where only the files can tell.

    Example:
        >>> held_out_sizes(DataRecipe(dataset="mnist", test_size=100))
        (5000, 100)
    """
    known = _HELD_OUT.get(data.dataset, (None, None))
    stated = (data.validation_size, data.test_size)
    validation, test = (k if s is None else s for s, k in zip(stated, known, strict=True))
    return None if validation is None or test is None else (validation, test)


def hours(samples: int, flops_per_sample: float, flops_per_second: float) -> float:
    """Return how long training on so many samples takes.

    Example:
        >>> hours(3600, 1e9, 1e9)
        1.0
    """
    return samples * flops_per_sample / flops_per_second / 3600
