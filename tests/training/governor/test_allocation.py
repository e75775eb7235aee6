"""Steps a block from gaps and costs: what holds whatever the gaps."""

import math
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from rnode_dyn.training.governor.allocation import allocate

TOLERANCE = 0.01
MOST = 32

finite = st.floats(0, 1e6)
block = st.tuples(
    st.one_of(finite, st.floats(0, TOLERANCE), st.just(math.inf)),
    st.integers(1, MOST),
    st.sampled_from([1, 2, 3, 4, 5, 8]),
    st.floats(1, 1e6),
)
blocks = st.lists(block, min_size=1, max_size=6)
Blocks = list[tuple[float, int, int, float]]


def allocated(given_blocks: Blocks) -> list[int]:
    gaps, steps, orders, costs = map(list, zip(*given_blocks, strict=True))
    return allocate(gaps, steps, orders, costs, TOLERANCE, MOST)  # type: ignore[arg-type]


def every_allocation(check: Callable[[Blocks, list[int]], None]) -> Callable[[], None]:
    @settings(deadline=None, max_examples=200)
    @given(blocks)
    def checked(found: Blocks) -> None:
        check(found, allocated(found))

    return checked


def _is_solved(found: Blocks) -> bool:
    return sum(gap for gap, *_ in found) <= TOLERANCE


def _within_limits(found: Blocks, counts: list[int]) -> None:
    assert all(1 <= count <= MOST for count in counts)


def _at_most_doubled(found: Blocks, counts: list[int]) -> None:
    for (_, steps, *_), count in zip(found, counts, strict=True):
        assert math.ceil(steps / 2) <= count <= 2 * steps


def _unsolved_loses_none_and_solved_costs_no_more(found: Blocks, counts: list[int]) -> None:
    pairs = list(zip(found, counts, strict=True))
    if not _is_solved(found):
        assert all(count >= steps for (_, steps, *_), count in pairs)
    elif counts != [steps for _, steps, *_ in found]:
        before = sum(steps * cost for _, steps, _, cost in found)
        assert sum(count * cost for (*_, cost), count in pairs) <= 0.9 * before


def _expected_below_the_tolerance_where_solved(found: Blocks, counts: list[int]) -> None:
    if _is_solved(found):
        expected = sum(
            gap * (steps / count) ** order
            for (gap, steps, order, _), count in zip(found, counts, strict=True)
        )
        assert expected <= TOLERANCE * (1 + 1e-9)


def _failed_blocks_double(found: Blocks, counts: list[int]) -> None:
    for (gap, steps, *_), count in zip(found, counts, strict=True):
        if math.isinf(gap):
            assert count == min(2 * steps, MOST)


def _unsolved_grows_unless_at_its_limit(found: Blocks, counts: list[int]) -> None:
    worst = max(found, key=lambda one: one[0])
    if not _is_solved(found) and worst[1] < MOST:
        assert sum(counts) > sum(steps for _, steps, *_ in found)


test_steps_stay_within_their_limits = every_allocation(_within_limits)
test_steps_at_most_double_or_halve = every_allocation(_at_most_doubled)
test_unsolved_loses_none_and_solved_costs_no_more = every_allocation(
    _unsolved_loses_none_and_solved_costs_no_more
)
test_what_is_solved_is_expected_to_stay_so = every_allocation(
    _expected_below_the_tolerance_where_solved
)
test_a_solve_that_broke_down_gets_twice_the_steps = every_allocation(_failed_blocks_double)
test_what_is_unsolved_gets_more_steps = every_allocation(_unsolved_grows_unless_at_its_limit)


@settings(deadline=None)
@given(st.integers(1, MOST), st.floats(0.51, 1.0), st.integers(1, 6))
def test_alike_blocks_that_are_solved_and_not_far_below_stay(
    steps: int, total: float, count: int
) -> None:
    gaps, ones = [total * TOLERANCE / count] * count, [1.0] * count
    counts = [steps] * count
    if sum(gaps) <= TOLERANCE:
        assert allocate(gaps, counts, [4] * count, ones, TOLERANCE, MOST) == counts


def test_a_dear_block_gives_its_steps_for_those_of_a_cheap_one() -> None:
    gaps, costs = [1e-6, 0.6 * TOLERANCE], [20.0, 1.0]
    assert allocate(gaps, [8, 4], [4, 4], costs, TOLERANCE, MOST) == [4, 5]


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(1, 100), st.integers(1, MOST), st.integers(1, 5))
def test_a_greater_gap_of_one_block_never_gets_fewer_steps(
    gap: float, factor: float, steps: int, order: int
) -> None:
    smaller, greater = (
        allocate([each], [steps], [order], [1.0], TOLERANCE, MOST)[0]
        for each in (gap, gap * factor)
    )
    assert smaller <= greater


def test_steps_beyond_the_most_are_cut() -> None:
    assert allocate([0.0, 1.0], [8, 8], [4, 4], [1.0, 1.0], TOLERANCE, most=2) == [2, 2]


def test_a_block_that_is_solved_does_not_make_up_for_one_at_its_limit() -> None:
    given_gaps = [1.0, 0.0, 1e-7]
    assert allocate(given_gaps, [2, 2, 2], [4] * 3, [1.0] * 3, TOLERANCE, MOST) == [4, 2, 2]


def test_a_block_keeps_its_least() -> None:
    gaps, steps, ones = [0.0] * 3, [5, 2, 1], [1.0] * 3
    assert allocate(gaps, steps, [4] * 3, ones, TOLERANCE, MOST, [5, 1, 1]) == [5, 1, 1]


def test_of_two_alike_the_cheaper_gets_the_steps() -> None:
    counts = allocate([0.01, 0.01], [4, 4], [4, 4], [1.0, 50.0], TOLERANCE, MOST)
    assert counts[0] > counts[1] >= 4
