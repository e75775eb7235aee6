"""Real samples beside drawn ones: row by row of the same label."""

import pytest
import torch

from rnode_dyn import load_data
from rnode_dyn.data import Splits
from rnode_dyn.report.beside import real_beside
from rnode_dyn.report.given import conditions_for


@pytest.fixture(scope="module")
def labelled() -> Splits:
    return load_data("digits", condition="label")


def labels_of(splits: Splits, samples: torch.Tensor) -> torch.Tensor:
    """The labels of test samples, found by comparing each with all."""
    labels = splits.conditions_of(splits.test)
    assert labels is not None
    everyone = splits.test[:].flatten(1)
    return torch.stack([labels[(everyone == one).all(1)][0] for one in samples.flatten(1)])


@pytest.mark.parametrize(("count", "given"), [(40, None), (3, None), (5, 7), (1, 0)])
def test_they_have_the_labels_of_what_is_drawn(labelled: Splits, count, given) -> None:
    given = None if given is None else torch.tensor(given)
    drawn = conditions_for(labelled.event, count, given)
    assert drawn is not None
    assert torch.equal(labels_of(labelled, real_beside(labelled, count, given)), drawn)


def test_none_is_shown_twice(labelled: Splits) -> None:
    assert len(real_beside(labelled, 60).unique(dim=0)) == 60


def test_where_images_of_a_label_are_too_few_rows_stay_together(labelled: Splits) -> None:
    labels = labelled.conditions_of(labelled.test)
    assert labels is not None
    fewest = int(labels.bincount().min())
    row = fewest + 2
    rows = real_beside(labelled, 10 * row).unflatten(0, (10, row))
    for label, images in enumerate(rows):
        there = (images > 0).flatten(1).any(1)
        number = min(row, int((labels == label).sum()))
        assert there.tolist() == [True] * number + [False] * (row - number)
        assert labels_of(labelled, images[there]).unique().tolist() == [label]


def test_points_of_a_label_are_as_many_as_there_are() -> None:
    splits = load_data("moons", condition="label")
    labels = splits.conditions_of(splits.test)
    assert labels is not None
    assert len(real_beside(splits, len(labels), torch.tensor(1))) == int((labels == 1).sum())


def test_of_no_label_they_are_the_first(labelled: Splits) -> None:
    assert torch.equal(real_beside(labelled, 4, torch.tensor(-1)), labelled.test.head(4))


def test_without_labels_they_are_the_first() -> None:
    splits = load_data("digits")
    assert torch.equal(real_beside(splits, 9), splits.test.head(9))
