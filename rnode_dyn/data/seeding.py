"""Independent streams of random numbers from one seed."""

import numpy as np
import torch


def generator_for(seed: int, stream: int) -> torch.Generator:
    """A generator whose draws depend on both numbers, and on nothing drawn elsewhere.

    Seed and stream are hashed together: adding them would make seed 1's first stream seed 0's
    second.
    """
    state = np.random.SeedSequence((seed, stream)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
