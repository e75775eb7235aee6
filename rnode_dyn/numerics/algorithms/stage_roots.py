"""Finding the stages of an implicit method: by iterating, or as they are known."""

import math
from collections.abc import Sequence
from functools import cache
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step, weighted_sum
from rnode_dyn.numerics.algorithms.implicit import Linearizable, Shifted
from rnode_dyn.numerics.algorithms.newton import Until, iterate

# How many stages of a step are guessed from the step before it: the others know some of their own.
_FROM_BEFORE = 2


class Staged(Protocol):
    """A method whose stages are solved one after another."""

    gamma: ClassVar[float]
    newton_iterations: int

    @property
    def name(self) -> str:
        """The name shown to people."""
        ...

    @property
    def nodes(self) -> tuple[float, ...]:
        """The times of the stages, as fractions of a step."""
        ...

    def along(self, step: Step, theta: float) -> Tensor:
        """Return the state at a fraction of a step, or beyond it."""
        ...


class Iterated:
    """Finds the roots of a step's stages by Newton's iteration.

    Args:
        method: Whose stages they are.
        until: When an iteration ends.
        degree: Of the polynomial in the slopes of earlier stages that guesses the next one's.
        previous: The step before this one, where it is known.
    """

    def __init__(
        self, method: Staged, until: Until, degree: int = 0, previous: Step | None = None
    ) -> None:
        self.method, self.until, self.degree, self.previous = method, until, degree, previous

    def begin(self, field: Linearizable, t: float, dt: float, x: Tensor) -> None:
        """Linearize the field where the step begins."""
        self.field, self.dt, self.shift = field, dt, 1 / (self.method.gamma * dt)
        self.matrix = Shifted.of(field, field.linearize(t, x), self.shift)
        self.failed = self.matrix.singular

    def find(self, t: float, base: Tensor, slopes: Sequence[Tensor]) -> Tensor:
        """Return the root of z = base + γ dt f(t, z), given the slopes of the stages before."""
        z, stuck = iterate(
            lambda z: (base - z) * self.shift + self.field(t, z),
            self.matrix,
            lambda z: Shifted.of(self.field, self.field.linearize(t, z), self.shift),
            self._guess(t, base, slopes).detach(),
            self.method.newton_iterations,
            self.until,
        )
        self.failed = self.failed | stuck
        return z

    def _guess(self, t: float, base: Tensor, slopes: Sequence[Tensor]) -> Tensor:
        """Go on along the step before, then along the slopes of the stages that are known."""
        before = self.previous
        if before is not None and len(slopes) <= _FROM_BEFORE:
            return self.method.along(before, (t - before.t) / before.dt)
        weights = weights_ahead(self.method.nodes[: len(slopes) + 1], self.degree)
        return weighted_sum(base, 1 / self.shift, weights, slopes)

    @property
    def failure(self) -> str | None:
        """What to say where a root was not found."""
        if self.matrix.failure is not None or not bool(self.failed.any()):
            return self.matrix.failure
        method = self.method
        return (
            f"Newton's iteration has not settled in {method.newton_iterations} iterations: take "
            f"shorter steps, or {method.name}(newton_iterations=…)"
        )


class Known:
    """The roots of a step that has been made before.

    Args:
        roots: They, in their order.
    """

    failure = None

    def __init__(self, roots: Sequence[Tensor]) -> None:
        self.roots = iter(roots)

    def begin(self, field: Linearizable, t: float, dt: float, x: Tensor) -> None:
        """None of the samples fails."""
        self.failed = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def find(self, t: float, base: Tensor, slopes: Sequence[Tensor]) -> Tensor:
        """Return the next of them."""
        return next(self.roots)


@cache
def weights_ahead(nodes: tuple[float, ...], degree: int) -> tuple[float, ...]:
    """Weights of slopes at all nodes but the last that guess the slope at the last one.

    Of a polynomial through those that are nearest to it, of which no two are at the same time.

    Example:
        >>> weights_ahead((0.0, 1.0, 2.0), degree=1)
        (-1.0, 2.0)
    """
    *known, wanted = nodes
    chosen: list[int] = []
    for i in sorted(range(len(known)), key=lambda i: (abs(known[i] - wanted), -i)):
        if len(chosen) <= degree and all(abs(known[i] - known[j]) > 1e-9 for j in chosen):
            chosen.append(i)
    return tuple(
        _lagrange(wanted, known[i], [known[j] for j in chosen if j != i]) if i in chosen else 0.0
        for i in range(len(known))
    )


def _lagrange(at: float, one: float, zeros: Sequence[float]) -> float:
    """The polynomial that is 1 at one node and 0 at the others."""
    return math.prod((at - zero) / (one - zero) for zero in zeros)
