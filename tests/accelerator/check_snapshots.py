"""A flow through several marginals in time is trained on the device as on the CPU."""

import pytest
import torch
from torch import Tensor

from rnode_dyn import MLPField, RegularizedFlow, Snapshots
from tests.accelerator.models import randomize
from tests.accelerator.twins import Figures, agree, gradients

pytestmark = pytest.mark.usefixtures("accel", "double_precision")


@pytest.mark.parametrize("paths", ["straight", "spline"])
def test_snapshots(paths) -> None:
    def use(flow: RegularizedFlow, *snapshots: Tensor) -> Figures:
        objective = Snapshots([0.0, 0.4, 1.0], pairs="independent", paths=paths, batch=4)
        loss = objective.loss(flow, snapshots).value
        loss.backward()
        return {"loss": loss, **gradients(flow.parameters())}

    def make() -> tuple[RegularizedFlow, Tensor, Tensor, Tensor]:
        # All samples of a time are the same: a device draws rows in an order of its own.
        rows = (torch.full((n, 2), float(n)) for n in (3, 4, 5))
        return (RegularizedFlow(randomize(MLPField(2, (8,)))), *rows)

    agree(make, use)
