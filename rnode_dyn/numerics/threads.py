"""How many threads torch uses on the CPU: as many as asked, or the faster of one and all."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch

_LONG_ENOUGH = 10.0
# All threads must save as much: one leaves the other cores to others, and is as steady as they are.
_WORTH_IT = 0.95


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads on the CPU, and then as many as before.

    Example:
        >>> with torch_threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def best_threads(step: Callable[[], object], rounds: int = 3) -> Iterator[int]:
    """Within this context, torch uses one thread on the CPU or all, whichever is faster.

    Small models lose by several threads, most of all beside other work; large ones gain. Sums are
    rounded otherwise by several threads than by one: a result that is to repeat to the last digit
    wants :func:`torch.set_num_threads` instead, with the number that is given here.

    Args:
        step: What to time, such as a loss and its gradient. It is called up to ``1 + 2 · rounds``
            times before the context begins, or not at all where torch has only one thread; the
            CPU's random state is put back.
        rounds: How often to time each.

    Yields:
        The number of threads.

    Example:
        >>> layer, x = torch.nn.Linear(8, 8), torch.ones(4, 8)
        >>> with best_threads(lambda: layer(x).sum().backward()) as threads:
        ...     threads == torch.get_num_threads()
        True
    """
    with torch_threads(faster_threads(step, rounds)):
        yield torch.get_num_threads()


def faster_threads(step: Callable[[], object], rounds: int = 3) -> int:
    """Return 1, or all of torch's threads where ``step`` is at least 5 % faster with them.

    Both take turns, so that what else the machine does falls on either; the first step, which sets
    things up, does not count. A long step is timed fewer times, but at least once.

    Args:
        step: What to time.
        rounds: How often to time each, at the most; 1 or more.

    Example:
        >>> with torch_threads(1):
        ...     faster_threads(lambda: None)
        1
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; write 1 or more.")
    every = torch.get_num_threads()
    if every == 1:
        return 1
    with torch_threads(every), torch.random.fork_rng(devices=[]):
        spent = _seconds(step, every)
        taken: dict[int, list[float]] = {1: [], every: []}
        for _ in range(rounds):
            for count, seconds in taken.items():
                seconds.append(_seconds(step, count))
            spent += sum(seconds[-1] for seconds in taken.values())
            if spent > _LONG_ENOUGH:
                break
    return every if median(taken[every]) < _WORTH_IT * median(taken[1]) else 1


def _seconds(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
