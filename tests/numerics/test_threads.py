"""The number of threads: chosen by what a step takes, and put back."""

import time
from collections.abc import Iterator

import pytest
import torch

from rnode_dyn import best_threads
from rnode_dyn.numerics import threads
from rnode_dyn.numerics.threads import faster_threads


class Clock:
    """Time that only passes as a step says, by the threads it is given."""

    def __init__(self, one: float, more: float) -> None:
        self.now, self.one, self.more = 0.0, one, more
        self.steps: list[int] = []

    def perf_counter(self) -> float:
        return self.now

    def step(self) -> None:
        torch.rand(3)
        self.steps.append(torch.get_num_threads())
        self.now += self.one if self.steps[-1] == 1 else self.more


@pytest.fixture(autouse=True)
def _four_threads() -> Iterator[None]:
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


def clock(monkeypatch: pytest.MonkeyPatch, one: float, more: float) -> Clock:
    made = Clock(one, more)
    monkeypatch.setattr(threads, "time", made)
    return made


@pytest.mark.parametrize(
    ("one", "more", "wanted"), [(1.0, 0.6, 4), (1.0, 0.98, 1), (1.0, 1.0, 1), (0.03, 1.1, 1)]
)
def test_the_faster_is_kept_and_then_put_back(
    one: float, more: float, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads must save something: they take the cores from others."""
    timed, state = clock(monkeypatch, one, more), torch.get_rng_state()
    with best_threads(timed.step) as chosen:
        assert (chosen, torch.get_num_threads()) == (wanted, wanted)
    assert torch.get_num_threads() == 4
    assert timed.steps == [4, 1, 4, 1, 4, 1, 4]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_long_step_is_timed_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = clock(monkeypatch, 20.0, 12.0)
    assert faster_threads(timed.step) == 4
    assert timed.steps == [4, 1, 4]


def test_with_one_thread_there_is_nothing_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    timed = clock(monkeypatch, 1.0, 0.1)
    assert (faster_threads(timed.step), timed.steps) == (1, [])


def test_a_step_that_fails_leaves_the_threads() -> None:
    def fail() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError), best_threads(fail):
        pass
    assert torch.get_num_threads() == 4


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds is 0; write 1 or more"):
        faster_threads(time.time, rounds=0)
