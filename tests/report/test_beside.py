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


@pytest.mark.parametrize(("count", "given"), [(4, -1), (400, 3)])
def test_where_a_label_has_too_few_they_are_the_first(labelled: Splits, count, given) -> None:
    shown = real_beside(labelled, count, torch.tensor(given))
    assert torch.equal(shown, labelled.test.head(count))


def test_without_labels_they_are_the_first() -> None:
    splits = load_data("digits")
    assert torch.equal(real_beside(splits, 9), splits.test.head(9))
