"""The stand-in for the checks in this folder, registered when the first of them asks for it."""

from collections.abc import Iterator

import pytest
import torch

from tests.accelerator.device import can_register, register


@pytest.fixture(scope="session")
def accel() -> torch.device:
    """The stand-in, for the rest of this process."""
    if not can_register():
        pytest.skip(f"torch {torch.__version__} cannot register a device written in Python")
    device = register()
    try:
        torch.ones(1, device=device, requires_grad=True).sum().backward()
    except RuntimeError as error:
        pytest.fail(
            "the device came after the first backward pass of this process: run the checks by "
            f"themselves, pytest tests/accelerator/check_*.py ({error})."
        )
    return device


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Compare in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
