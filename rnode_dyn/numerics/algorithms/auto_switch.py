"""Two methods in one solve: an explicit one, and one for stiff problems."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Algorithm, Step, weighted_sum
from rnode_dyn.numerics.algorithms.implicit import counted
from rnode_dyn.numerics.algorithms.rosenbrock import Rosenbrock
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.algorithms.tableau import ButcherTableau
from rnode_dyn.numerics.problem import RightHandSide

# Shares of the explicit method's bound of stability, how many accepted steps speak for a change
# there, and how many against it in a row make forget those (steps at the bound swing about it).
_ENTER, _ENTER_AFTER, _ENTER_PATIENCE = 0.9, 10, 6
_LEAVE, _LEAVE_AFTER, _LEAVE_PATIENCE = 0.5, 3, 1


@dataclass(frozen=True)
class AutoSwitch(Algorithm):
    """An explicit method that gives way to one for stiff problems, and takes over again.

    After each accepted step the field's fastest rate, times the step, is compared with how far the
    explicit method is stable: the rate is that between its last two stages, which share a time
    (Hairer & Wanner, Solving ODEs II, IV.2), or the norm of the Jacobian. Ten steps above 0.9 of
    the bound, without six below in a row, call the stiff method; three in a row below 0.5 call the
    explicit one. Steps are adaptive, and their length is controlled by the order of their method.

    Args:
        explicit: An embedded method whose last two stages share a time: ``Tsit5()``, ``Dopri5()``,
            ``BS5()``, ``Vern7()`` or ``Vern9()``.
        stiff: ``Rosenbrock23()`` or ``Rodas5P()``.

    Raises:
        TypeError: if a method is not of its kind.
        ValueError: if the explicit one has no such stages.

    Example:
        >>> from rnode_dyn import Rosenbrock23, Tsit5
        >>> AutoSwitch(Tsit5(), Rosenbrock23())
        AutoSwitch(explicit=Tsit5(), stiff=Rosenbrock23())
    """

    explicit: ExplicitRungeKutta
    stiff: Rosenbrock

    def __post_init__(self) -> None:
        if not isinstance(self.explicit, ExplicitRungeKutta):
            raise TypeError(f"explicit is {self.explicit!r}; write Tsit5(), say.")
        if not isinstance(self.stiff, Rosenbrock):
            raise TypeError(f"stiff is {self.stiff!r}; write Rosenbrock23() or Rodas5P().")
        c = self.explicit.tableau.c
        if self.explicit.embedded_order is None or len(c) < 3 or c[-1] != c[-2]:
            raise ValueError(
                f"AutoSwitch tells a stiff field by two stages of one time, and estimates its "
                f"error, and {self.explicit.name} has not both: write Tsit5(), Dopri5(), BS5(), "
                "Vern7() or Vern9()."
            )

    @property
    def order(self) -> int:  # type: ignore[override]  # of the less accurate method
        """The lower of both orders."""
        return min(self.explicit.order, self.stiff.order)

    @property
    def embedded_order(self) -> int | None:
        """The lower of both."""
        return min(self.explicit.embedded_order or 0, self.stiff.embedded_order or 0)

    @property
    def interpolation_order(self) -> int:
        """The lower of both."""
        return min(self.explicit.interpolation_order, self.stiff.interpolation_order)

    @property
    def is_implicit(self) -> bool:
        """Some of its steps solve equations."""
        return True

    @property
    def switches(self) -> bool:
        """Its steps are of several methods."""
        return True

    def started(self, tolerances: tuple[Any, Any] | None = None) -> "Switching":
        """Return what makes the steps of one solve, beginning with the explicit method."""
        return Switching(self)

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step as the first of a solve: by the explicit method."""
        return self.started().advance(rhs, t, dt, x, slope)

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State at a time within ``step``, by the method that made it."""
        return (step.made_by or self.explicit).interpolate(rhs, step, t)


class Switching(Algorithm):
    """The steps of one solve: which method's turn it is.

    A step has been accepted where the next one begins at its end.

    Args:
        methods: The two.
    """

    def __init__(self, methods: AutoSwitch) -> None:
        self.methods, self.order = methods, methods.order
        self.method: ExplicitRungeKutta | Rosenbrock = methods.explicit
        self.bound = real_stability(methods.explicit.tableau)
        self.latest: Step | None = None
        self.votes = self.against = 0

    @property
    def embedded_order(self) -> int | None:
        """That of both."""
        return self.methods.embedded_order

    @property
    def is_implicit(self) -> bool:
        """Some of its steps solve equations."""
        return True

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step by the method whose turn it is."""
        if self.latest is not None and self.latest.t1 == t:
            self._judge(rhs, self.latest)
        step = self.method.advance(rhs, t, dt, x, slope)
        step.made_by = self.method
        self.latest = step
        return step

    def _judge(self, rhs: RightHandSide, step: Step) -> None:
        explicit, stiff = self.methods.explicit, self.methods.stiff
        if self.method is explicit:
            share = _rate_of_stages(explicit.tableau, step) * abs(step.dt) / self.bound
            self._count(share > _ENTER, _ENTER_AFTER, _ENTER_PATIENCE, stiff)
        else:
            # The step's own, which is still there.
            by_state = counted(rhs).linearize(step.t, step.x0).by_state.detach()
            share = float(by_state.abs().sum(-1).amax()) * abs(step.dt) / self.bound
            self._count(share < _LEAVE, _LEAVE_AFTER, _LEAVE_PATIENCE, explicit)

    def _count(
        self,
        speaks_for_it: bool,
        enough: int,
        patience: int,
        other: ExplicitRungeKutta | Rosenbrock,
    ) -> None:
        """Count what speaks for the other method, and change to it after enough."""
        self.against = 0 if speaks_for_it else self.against + 1
        if speaks_for_it:
            self.votes += 1
        elif self.against >= patience:
            self.votes = 0
        if self.votes == enough:
            self.method, self.votes, self.against = other, 0, 0


@torch.no_grad()
def _rate_of_stages(tableau: ButcherTableau, step: Step) -> float:
    """How fast the field changes from the last stage but one to the last, of the fastest sample."""
    weights = np.array([*tableau.a[-1]])
    weights[: len(tableau.a[-2])] -= tableau.a[-2]
    states = weighted_sum(torch.zeros_like(step.x0), step.dt, weights.tolist(), step.slopes)
    apart = states.flatten(1).norm(dim=1)
    change = (step.slopes[-1] - step.slopes[-2]).flatten(1).norm(dim=1)
    # What is rounding alone says nothing.
    known = apart > 10 * torch.finfo(apart.dtype).eps * step.x1.flatten(1).norm(dim=1)
    return float(torch.where(known, change / apart, 0.0).amax())


@cache
def real_stability(tableau: ButcherTableau) -> float:
    """How far the method is stable along the negative real axis, to two digits.

    Example:
        >>> from rnode_dyn import RK4
        >>> round(real_stability(RK4.tableau), 1)
        2.8
    """
    stages = tableau.stages
    a = np.zeros((stages, stages))
    for i, row in enumerate(tableau.a, 1):
        a[i, : len(row)] = row
    for z in np.arange(0.01, 100.0, 0.01):
        growth = 1 - z * np.array(tableau.b) @ np.linalg.solve(
            np.eye(stages) + z * a, np.ones(stages)
        )
        if abs(growth) > 1 + 1e-9:
            return float(z)
    return 100.0
