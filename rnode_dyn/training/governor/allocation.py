"""How many steps each block gets, given what its steps leave unsolved and what they cost."""

import math
from collections.abc import Sequence

# New numbers of steps aim below the tolerance: else every second look would change them.
_AIM = 0.5

# What a block's gap may be, as a part of its share, for the block to get no more steps.
_NEGLIGIBLE = 0.1

# What is solved is solved otherwise only where that saves a part of the cost.
_WORTH_A_CHANGE = 0.9


def allocate(
    gaps: Sequence[float],
    steps: Sequence[int],
    orders: Sequence[int],
    costs: Sequence[float],
    tolerance: float,
    most: int,
    least: Sequence[int] | None = None,
) -> list[int]:
    """Return the cheapest numbers of steps whose gaps are expected to sum to the tolerance.

    A block's gap is taken to fall as n⁻ᵖ, p being its algorithm's order. Above the tolerance
    steps are added, twice as many at most, where they help most for their cost. Below it blocks
    change to between half and twice their steps, where what is left is expected to stay below
    half of the tolerance and a tenth of the cost is saved.

    Args:
        gaps: What each block's steps leave unsolved; infinite where the solve failed.
        steps: Its steps now.
        orders: Order of its algorithm.
        costs: What one of its steps costs.
        tolerance: Largest sum of the gaps.
        most: Most steps of a block.
        least: For each block how many it keeps in any case; left out, 1.

    Example:
        >>> allocate([0.016, 0.001], [2, 2], [4, 4], [1.0, 1.0], tolerance=0.01, most=64)
        [3, 2]
        >>> allocate([1e-5, 1e-5], [8, 8], [4, 4], [1.0, 1.0], tolerance=0.01, most=64)
        [4, 4]
    """
    solved = sum(gaps) <= tolerance
    now = [min(n, most) for n in steps]
    floors = [1] * len(steps) if least is None else least
    limits = [min(2 * n, most) for n in steps]
    failed = [not math.isfinite(gap) for gap in gaps]
    halves = [max(min(floor, n), math.ceil(n / 2)) for floor, n in zip(floors, now, strict=True)]
    counts = [
        limit if lost else n
        for limit, lost, n in zip(limits, failed, halves if solved else now, strict=True)
    ]

    def expected(block: int, count: int) -> float:
        return 0.0 if failed[block] else gaps[block] * (steps[block] / count) ** orders[block]

    def gain(block: int) -> float:
        count = counts[block]
        return (expected(block, count) - expected(block, count + 1)) / costs[block]

    def cost(of: list[int]) -> float:
        return sum(count * each for count, each in zip(of, costs, strict=True))

    # Blocks that are as good as solved do not make up for one that is at its limit.
    negligible = 0.0 if solved else _NEGLIGIBLE * tolerance / len(steps)
    while sum(expected(k, n) for k, n in enumerate(counts)) > _AIM * tolerance:
        growing = [k for k, n in enumerate(counts) if n < limits[k]]
        growing = [k for k in growing if expected(k, counts[k]) >= negligible]
        if not growing:
            break
        counts[max(growing, key=gain)] += 1
    kept = solved and cost(counts) > _WORTH_A_CHANGE * cost(now)
    return now if kept else counts
