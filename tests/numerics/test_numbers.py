"""What is yes or no is said as such: a word would count as yes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rnode_dyn import BacksolveAdjoint, Scale, UNetField
from rnode_dyn.numerics.numbers import truth

TAKES: dict[str, Callable[[Any], object]] = {
    "UNetField: skip": lambda value: UNetField(1, 8, 1, skip=value),
    "UNetField: attention": lambda value: UNetField(1, 8, 1, attention=value),
    "Scale: squeeze": lambda value: Scale([], squeeze=value),
    "Scale: split": lambda value: Scale([], split=value),
    "BacksolveAdjoint: seminorm": lambda value: BacksolveAdjoint(seminorm=value),
}


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("value", ["false", "no", None, [0], 0.0])
def test_only_truth_is_yes_or_no(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} is .*; write True or False"):
        TAKES[name](value)


@pytest.mark.parametrize("name", TAKES)
def test_numpys_truth_is_truth(name: str) -> None:
    TAKES[name](np.bool_(True))
    assert truth("it", "yes", np.bool_(False)) is False
