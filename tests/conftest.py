"""Settings for all tests."""

import pytest
import torch

# Tests run side by side, on small tensors: threads within each would only be in the way.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    """Every test starts from the same random numbers, whatever ran before it."""
    torch.manual_seed(0)
