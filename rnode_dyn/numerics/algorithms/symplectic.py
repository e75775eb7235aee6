"""Symplectic methods: the halves of a separable Hamiltonian, stepped by turns."""

from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step
from rnode_dyn.numerics.algorithms.dense_polynomial import PolynomialDense
from rnode_dyn.numerics.at_times import Wrapped
from rnode_dyn.numerics.hamiltonian import Separated
from rnode_dyn.numerics.problem import ODEProblem, RightHandSide


@runtime_checkable
class InParts(Protocol):
    """A field whose parts can be evaluated one by one, in the time that is stepped."""

    @property
    def problem(self) -> ODEProblem:
        """Whose field it is."""
        ...

    def part(self, of: Callable[[Tensor], Tensor], x: Tensor, counts: bool = True) -> Tensor:
        """Evaluate a part, and count it as an evaluation, or not."""
        ...


class Symplectic(PolynomialDense):
    """The stepper of splitting methods, for a :class:`HamiltonianProblem`.

    Kicks, p += k dt force(q), and drifts, q += d dt velocity(p), follow each other, a kick first
    and last. Each preserves areas of the phase space, so that the step does: the energy swings
    about its value by an error of the method's order, and does not drift, however long the solve.

    The force at the end serves the next step. A method is a subclass with an ``order``, ``kicks``
    and ``drifts``, one kick more than drifts; two instances of one method are equal.
    """

    order: ClassVar[int]  # type: ignore[misc]
    kicks: ClassVar[tuple[float, ...]]
    drifts: ClassVar[tuple[float, ...]]

    @property
    def is_symplectic(self) -> bool:
        """Whether it steps the halves of a separable Hamiltonian, and no other field."""
        return True

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step; each of its forces is counted as an evaluation of the field.

        Raises:
            TypeError: if the field is not that of a separable Hamiltonian.
        """
        field, halves = self._separated(rhs)
        start = rhs(t, x) if slope is None else slope
        q, p = x.chunk(2, -1)
        force = start.chunk(2, -1)[1]
        for kick, drift in zip(self.kicks, self.drifts, strict=False):
            p = p.add(force, alpha=dt * kick)
            q = q.add(field.part(halves.velocity, p, counts=False), alpha=dt * drift)
            force = field.part(halves.force, q)
        p = p.add(force, alpha=dt * self.kicks[-1])
        end_slope = torch.cat([field.part(halves.velocity, p, counts=False), force], -1)
        return Step(t, dt, x, torch.cat([q, p], -1), (start,), end_slope=end_slope)

    @property
    def dense_powers(self) -> np.ndarray:
        """The cubic through both ends, by powers of θ."""
        return np.array([[0.0, 1.0, 0.0], [3.0, -2.0, -1.0], [-2.0, 1.0, 1.0]])

    def dense_parts(self, step: Step) -> list[Tensor]:
        """Return the chord, and the slopes at both ends, which are known."""
        assert step.end_slope is not None  # advance() has computed it
        return [step.x1 - step.x0, step.slopes[0] * step.dt, step.end_slope * step.dt]

    def _separated(self, rhs: RightHandSide) -> tuple[InParts, Separated]:
        if not isinstance(rhs, InParts):
            raise TypeError(
                f"{self.name} steps the two halves of a Hamiltonian for the whole batch, and is "
                "given a function of a time and a state alone: call solve(problem, solver)."
            )
        field = rhs.problem.field
        separated = getattr(field, "separated", None)
        if separated is not None:
            return rhs, separated
        written = field.written if isinstance(field, Wrapped) else field
        name = getattr(written, "__qualname__", type(written).__name__)
        raise TypeError(
            f"{self.name} steps the two halves of a separable Hamiltonian by turns, and cannot "
            f"tell them in the field {name}: write HamiltonianProblem(T, V, x0, t_span), or take "
            "another algorithm, such as RK4()."
        )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{self.name}()"


class VelocityVerlet(Symplectic):
    """Order 2, symplectic: Verlet, Phys. Rev. 159, 1967; Swope et al., J. Chem. Phys. 76, 1982.

    Kick, drift, kick, also known as leapfrog or Störmer's method. One force a step, the first step
    two. Dense output is a cubic through both ends, without a further evaluation.
    """

    order = 2
    kicks = (1 / 2, 1 / 2)
    drifts = (1.0,)


# Three steps of Verlet's method, the middle one backwards, whose errors of third order cancel.
_OUTER = 1 / (2 - 2 ** (1 / 3))
_INNER = 1 - 2 * _OUTER


class Yoshida4(Symplectic):
    """Order 4, symplectic: Yoshida, Phys. Lett. A 150, 1990; Forest & Ruth, Physica D 43, 1990.

    Three steps of :class:`VelocityVerlet`. Three forces a step, the first step four. Dense output
    is a cubic through both ends, without a further evaluation.
    """

    order = 4
    kicks = (_OUTER / 2, (_OUTER + _INNER) / 2, (_INNER + _OUTER) / 2, _OUTER / 2)
    drifts = (_OUTER, _INNER, _OUTER)
