"""Checks of what a device computes: each read at once, or all together where somebody waits.

To read a value is to wait until a GPU has found it. A check is therefore a flag on the device, and
what to raise where it is false; when the flag is read is for the caller of the solve to say.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rnode_dyn.numerics.errors import SolverError
from rnode_dyn.numerics.transforms import is_exporting

Tell = Callable[[SolverError], SolverError]


@dataclass(frozen=True)
class _Check:
    """What a computation stands or falls by.

    Attributes:
        passed: Whether it stands, 0-dim.
        error: Finds out what to raise where it falls.
    """

    passed: Tensor
    error: Callable[[], Exception]

    def conclude(self) -> None:
        """Read the flag, and raise where it is false."""
        if not bool(self.passed):
            raise self.error()

    def retold(self, tell: Tell) -> "_Check":
        """Return the check with another way to say what is wrong."""

        def error() -> Exception:
            found = self.error()
            return tell(found) if isinstance(found, SolverError) else found

        return replace(self, error=error)


class DeferredChecks:
    """Checks that wait to be read together; see :func:`deferred_checks`.

    Args:
        on_cpu: Whether those of the CPU wait too, where whoever reads them must come so far.
    """

    def __init__(self, on_cpu: bool = False) -> None:
        self.on_cpu = on_cpu
        self._waiting: list[_Check] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nobody will come for what waits any more."""
        return self._closed

    def defers(self, check: _Check) -> bool:
        """Whether a check would wait."""
        return not self.closed and (self.on_cpu or check.passed.device.type != "cpu")

    def add(self, check: _Check) -> None:
        """Let a check wait, or read it at once."""
        if self.defers(check):
            self._waiting.append(check)
        else:
            check.conclude()

    def failed(self, device: torch.device) -> Tensor:
        """Return whether any that waits has failed, 0-dim on a device; nothing is read."""
        flags = [check.passed.to(device) for check in self._waiting]
        return ~torch.stack(flags).all() if flags else torch.zeros((), device=device).bool()

    def first_error(self) -> Exception | None:
        """Read what waits, and return what is wrong with the first that has failed, if any has."""
        waiting = self._take()
        if not waiting:
            return None
        passed = torch.stack([c.passed.to(waiting[0].passed.device) for c in waiting]).tolist()
        return None if all(passed) else waiting[passed.index(False)].error()

    def conclude(self) -> None:
        """Read what waits, with one reading, and raise for the first that has failed."""
        error = self.first_error()
        if error is not None:
            raise error

    def fetch(self, tensor: Tensor) -> Tensor:
        """Bring a tensor to the CPU, and conclude by the same reading.

        Raises:
            SolverError: for the first check that has failed.
        """
        if not self._waiting:
            return tensor.cpu()
        failed = self.failed(tensor.device).to(tensor.dtype).reshape(1)
        home = torch.cat([failed, tensor.detach().reshape(-1)]).cpu()
        if bool(home[0]):
            self.conclude()
        self._take()
        return home[1:].view(tensor.shape)

    def close(self) -> None:
        """Forget what waits; what comes from now on is read at once."""
        self._take()
        self._closed = True

    def _take(self) -> list[_Check]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class _Retold(DeferredChecks):
    """The checks of another, told otherwise as they come in."""

    def __init__(self, others: DeferredChecks, tell: Tell) -> None:
        self._others, self._waiting, self._tell = others, others._waiting, tell

    @property
    def closed(self) -> bool:
        return self._others.closed

    def defers(self, check: _Check) -> bool:
        return self._others.defers(check)

    def add(self, check: _Check) -> None:
        # What is raised at once is told by whoever catches it.
        if self.defers(check):
            self._others.add(check.retold(self._tell))
        else:
            check.conclude()


class _AtOnce(DeferredChecks):
    """Lets nothing wait."""

    def defers(self, check: _Check) -> bool:
        return False


_current: ContextVar[DeferredChecks | None] = ContextVar("checks", default=None)


def check(passed: Tensor, error: Callable[[], Exception]) -> None:
    """Raise unless a flag is true: at once, or when it is read with others.

    A flag without a value, of a computation on shapes alone, says nothing. In an export there is
    nothing to be read; what is not finite is seen in the result.

    Args:
        passed: The flag, 0-dim.
        error: Makes what to raise, reading from the device what it needs.
    """
    if is_exporting():
        return
    waiting, made = _current.get(), _Check(passed, error)
    if passed.device.type == "meta":
        return
    if waiting is None:
        made.conclude()
    else:
        waiting.add(made)


@contextmanager
def deferred_checks() -> Iterator[DeferredChecks]:
    """Within this context, the host reads no check of a solve: all are read at its end, once.

    A solve looks whether its states, and its gradients, are finite. On a GPU each look is a
    reading, for which the host waits; in here the flags stay on the device. On the CPU, where
    nothing is waited for, an error is raised where it arises. Within another such context the
    outer one reads. **What was computed is not known to be sound before the context has ended**:
    use it for an update, or show it, afterwards.

    Yields:
        What collects the checks.

    Raises:
        SolverError: at the end, for the first solve that has broken down; it says of the place
            what it would have said at once.

    Example:
        >>> from rnode_dyn import RK4, FixedStep, ODEProblem, Solver, solve
        >>> rate = torch.ones((), requires_grad=True)
        >>> with deferred_checks():
        ...     problem = ODEProblem(lambda t, x: -rate * x, torch.ones(1, 1), (0.0, 1.0))
        ...     solve(problem, Solver(RK4(), FixedStep(0.25))).x[-1].sum().backward()
        >>> round(rate.grad.item(), 2)
        -0.37
    """
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    checks = DeferredChecks()
    try:
        with collecting(checks):
            yield checks
        checks.conclude()
    except SolverError as error:
        # A later solve falls over what an earlier one left: the earlier one is to blame.
        earlier = checks.first_error()
        if earlier is None:
            raise
        raise earlier from error
    finally:
        checks.close()


@contextmanager
def checked_at_once() -> Iterator[None]:
    """Within this context every check is read where it arises, whoever waits outside."""
    with collecting(_AtOnce()):
        yield


def collector() -> DeferredChecks | None:
    """Return who collects checks at this moment, for a backward pass in a thread of its own."""
    return _current.get()


@contextmanager
def collecting(checks: DeferredChecks | None) -> Iterator[None]:
    """Let checks be collected by this one; ``None``, or one that is closed: by nobody."""
    token = _current.set(None if checks is None or checks.closed else checks)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def retelling(tell: Tell) -> Iterator[None]:
    """Let a solver's error be told otherwise, whether it is raised within or is found later."""
    waiting = _current.get()
    try:
        with collecting(None if waiting is None else _Retold(waiting, tell)):
            yield
    except SolverError as error:
        raise tell(error) from error
