"""Any method made reversible: a pair of states, each stepped from the other.

(McCallum & Foster, "Efficient, Accurate and Stable Gradients for Neural ODEs", 2024.)
From t to t + h the pair (y, z) goes to

    y' = λ y + (1 − λ) z + Ψ_h(t, z)    and    z' = z − Ψ_{−h}(t + h, y'),

where Ψ is the method's own increment. Both can be solved for what stands on their right, so that
the way back is found from the end alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step
from rnode_dyn.numerics.problem import RightHandSide


@dataclass(eq=False)
class CoupledStep(Step):
    """A step of the first state of a pair.

    Args:
        partner: The second state at the start.
        inner: The method's own step from there.
    """

    partner: Tensor | None = None
    inner: Step | None = None


@dataclass(frozen=True)
class Coupling:
    """How the two states of a pair are tied.

    Attributes:
        algorithm: The method that is made reversible.
        strength: λ, in (0, 1]; at 1 the first state goes on from itself.
    """

    algorithm: Algorithm
    strength: float

    def ahead(self, inner: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return y' given where the method came to from z."""
        return inner.add(y - z, alpha=self.strength)

    def follow(self, back: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return z' given where the method came back to from y'."""
        return z + (y - back)

    def before(self, inner: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return y given y', and where the method comes to from z."""
        return z.add(y - inner, alpha=1 / self.strength)

    def followed(self, back: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return z given y' and z', and where the method comes back to from y'."""
        return z - (y - back)


class CoupledAlgorithm(Algorithm):
    """Steps the first state of a pair, and keeps the second.

    That one follows only when a step has been accepted, which shows in the next beginning where it
    ended: a rejected step costs what it costs without a partner, and the last one needs none.

    Args:
        coupling: The method, and how the states are tied.
        noted: Is told of every step by which the second state followed.
    """

    def __init__(self, coupling: Coupling, noted: Callable[[], None]) -> None:
        self.coupling, self.noted = coupling, noted
        self.order = coupling.algorithm.order
        self.latest: CoupledStep | None = None

    @property
    def embedded_order(self) -> int | None:
        """That of the method."""
        return self.coupling.algorithm.embedded_order

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step from ``x``, the first state; ``slope`` is the field there."""
        z = self._partner(rhs, x, slope)
        inner = self.coupling.algorithm.advance(rhs, t, dt, z, slope if z is x else None)
        x1 = self.coupling.ahead(inner.x1, x, z)
        self.latest = CoupledStep(
            t, dt, x, x1, inner.slopes, error=inner.error, partner=z, inner=inner
        )
        return self.latest

    def _partner(self, rhs: RightHandSide, x: Tensor, slope: Tensor | None) -> Tensor:
        """The second state where the first is ``x``; at the start they are the same."""
        step = self.latest
        if step is None:
            return x
        assert step.partner is not None
        if x is step.x0:  # rejected
            return step.partner
        back = self.coupling.algorithm.advance(rhs, step.t + step.dt, -step.dt, x, slope)
        self.noted()
        return self.coupling.follow(back.x1, x, step.partner)

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State within a step: the method's own from the second state, moved as its end is."""
        if t == step.t:
            return step.x0
        assert isinstance(step, CoupledStep)
        assert step.inner is not None
        assert step.partner is not None
        inner = self.coupling.algorithm.interpolate(rhs, step.inner, t)
        return self.coupling.ahead(inner, step.x0, step.partner)
