"""Which real samples are shown beside drawn ones: of the same labels, where samples have labels."""

import torch
from torch import Tensor

from rnode_dyn.data.splits import Splits
from rnode_dyn.report.given import conditions_for


def real_beside(splits: Splits, count: int, given: Tensor | None = None) -> Tensor:
    """Return test samples to show beside as many drawn ones.

    Args:
        splits: The data.
        count: How many samples are drawn; without a condition, so many of all classes together.
        given: The condition of all that are drawn.

    Returns:
        The first test samples of each label, in the order in which the labels are drawn. Where
        there are too few of one, images are made up to the number by black ones, which keeps rows
        together, and vectors are fewer. Without labels, or with none of those that are drawn, the
        first ``count`` of all.

    Example:
        >>> from rnode_dyn import load_data
        >>> splits = load_data("digits", condition="label")
        >>> real_beside(splits, 20).shape, real_beside(splits, 3, torch.tensor(7)).shape
        (torch.Size([20, 1, 8, 8]), torch.Size([3, 1, 8, 8]))
    """
    labels = None if splits.event.classes is None else splits.conditions_of(splits.test)
    drawn = conditions_for(splits.event, count, given) if labels is not None else None
    if labels is None or drawn is None:
        return splits.test.head(count)
    wanted, counts = drawn.unique(return_counts=True)
    found = [
        splits.test[(labels == label).nonzero().flatten()[:number]]
        for label, number in zip(wanted, counts, strict=True)
    ]
    if not any(map(len, found)):
        return splits.test.head(count)
    if len(splits.event_shape) == 3:
        found = [_filled_up(some, number) for some, number in zip(found, counts, strict=True)]
    return torch.cat(found)


def _filled_up(images: Tensor, count: Tensor) -> Tensor:
    """Return so many images, the last of them black where there are fewer."""
    return torch.cat([images, images.new_zeros(int(count) - len(images), *images.shape[1:])])
