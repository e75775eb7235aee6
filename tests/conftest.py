"""Settings for all tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """Every test starts from the same random numbers, whatever ran before it."""
    torch.manual_seed(0)
