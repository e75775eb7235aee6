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
        there are no labels, or too few samples of one, simply the first ``count`` of all.

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
    rows = [
        (labels == label).nonzero().flatten()[:number]
        for label, number in zip(wanted, counts, strict=True)
    ]
    if any(len(of_label) < number for of_label, number in zip(rows, counts, strict=True)):
        return splits.test.head(count)
    return splits.test[torch.cat(rows)]
