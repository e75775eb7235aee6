"""The precision that a training computes in: what it is, and half without needless rounding."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import HalfPrecision

from rnode_dyn.recipe.schema import Recipe

HALF = (torch.bfloat16, torch.float16)
"""Precisions too coarse to score in."""


class BFloat16Weights(HalfPrecision):
    """Lightning's ``bf16-true``, where only the model computes in bfloat16.

    Lightning's own also rounds continuous data to three digits, in validation too, and every
    number that is made on the way, such as a count of evaluations.
    """

    def __init__(self) -> None:
        super().__init__("bf16-true")

    def convert_input(self, data: Any) -> Any:
        """Leave data as they are: the training module casts what it trains on."""
        return data

    @contextmanager
    def forward_context(self) -> Iterator[None]:  # type: ignore[override]
        """Leave the default precision as it is."""
        yield


def tell_of_precision(
    recipe: Recipe, trainers: Sequence[pl.Trainer], tell: Callable[[str], None]
) -> None:
    """Say so where Lightning computes in another precision than the recipe asks for."""
    asked, taken = recipe.train.precision, str(trainers[0].precision_plugin.precision)
    if taken != asked:
        tell(
            f'train.precision = "{asked}" is {taken} on this device, which has no arithmetic of '
            "16 bits but bfloat16's; the summary says so too"
        )
