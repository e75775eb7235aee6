"""Maps without an ODE on the device give what they give on the CPU, there and back."""

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    Compose,
    LogitTransform,
    Shift,
    Squeeze,
    Standardize,
    ThreeBells,
    Transform,
    bits_per_dim,
)
from tests.accelerator.readings import host_readings
from tests.accelerator.twins import Figures, agree

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

TRANSFORMS = {
    "logit": LogitTransform(0.05),
    "three bells": ThreeBells(0.1, 0.3),
    "shift": Shift(-0.5),
    "squeeze": Squeeze(),
    "standardize": Standardize(torch.rand(1, 4, 4), 1 + torch.rand(1, 4, 4)),
    "chain": Compose([LogitTransform(0.05), Squeeze(), Shift(1.0)]),
}


def images() -> Tensor:
    return torch.rand(3, 1, 4, 4)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform(name: str) -> None:
    def use(transform: Transform, x: Tensor) -> Figures:
        there = transform(x)
        back = transform.inverse(there.z)
        return {
            "z": there.z,
            "log_det": there.log_det,
            "back": back.z,
            "log_det_back": back.log_det,
            "generated": transform.generate(there.z),
        }

    agree(lambda: (TRANSFORMS[name], images()), use)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_transform_reads_anything(name: str) -> None:
    x, transform = images().to("accel"), TRANSFORMS[name].to("accel")
    transform.inverse(transform(x).z)  # what its numbers ask for is looked at once
    with host_readings() as readings:
        transform.inverse(transform(x).z)
    assert readings.count == 0, str(readings)


@pytest.mark.parametrize("levels", [None, 256])
def test_bits_per_dim(levels: int | None) -> None:
    agree(lambda: (torch.randn(3),), lambda x: {"bits": bits_per_dim(x, 16, levels)})
