"""Weights are laid out for speed, by what the field does with them; values stay."""

import pytest
import torch

from rnode_dyn import ConvField, UNetField
from rnode_dyn.flows.layout import lay_out

FIELDS = {"conv": lambda: ConvField(2, [3]), "unet": lambda: UNetField(2, width=8, levels=1)}


@pytest.mark.parametrize(("name", "together"), [("conv", True), ("unet", False)])
def test_channels_lie_together_where_no_groups_of_them_are_normalised(
    name: str, together: bool
) -> None:
    field = FIELDS[name]()
    before = {key: weight.clone() for key, weight in field.state_dict().items()}
    lay_out(field, torch.device("cpu"))
    kernels = [w for w in field.parameters() if w.dim() == 4 and w.shape[1] > 1 < w.shape[2]]
    assert all(
        w.is_contiguous(memory_format=torch.channels_last) == together != w.is_contiguous()
        for w in kernels
    )
    assert all(torch.equal(weight, before[key]) for key, weight in field.state_dict().items())
