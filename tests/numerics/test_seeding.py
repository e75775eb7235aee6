"""Drawing from a seed for a while."""

import pytest
import torch

from rnode_dyn.numerics.seeding import random_state_kept, reseed, seeded

CPU = torch.device("cpu")


def test_numbers_are_those_of_the_seed() -> None:
    with seeded(CPU, 5):
        found = torch.randn(3)
    torch.manual_seed(5)
    assert torch.equal(found, torch.randn(3))


def test_the_state_is_put_back_after_an_error_too() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="size"), seeded(CPU, 5):
        torch.dot(torch.rand(2), torch.rand(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeding_again_within() -> None:
    with random_state_kept(CPU):
        draws = []
        for _ in range(2):
            reseed(CPU, 1)
            draws.append(torch.rand(2))
    assert torch.equal(*draws)
