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


def train_size(data: DataRecipe) -> int | None:
    """Return how many samples an epoch has; ``None`` where only the files can tell.

    Example:
        >>> train_size(DataRecipe(dataset="mnist")), train_size(DataRecipe(dataset="npy"))
        (55000, None)
    """
    return data.train_size or _KNOWN.get(data.dataset)


def hours(samples: int, flops_per_sample: float, flops_per_second: float) -> float:
    """Return how long training on so many samples takes.

    Example:
        >>> hours(3600, 1e9, 1e9)
        1.0
    """
    return samples * flops_per_sample / flops_per_second / 3600
