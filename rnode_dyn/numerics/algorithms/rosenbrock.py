"""The stepper of Rosenbrock methods, which solve linear systems and iterate nothing."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step, weighted_sum
from rnode_dyn.numerics.algorithms.implicit import (
    ImplicitAlgorithm,
    Shifted,
    counted,
    void_where,
)
from rnode_dyn.numerics.problem import RightHandSide


@dataclass(frozen=True)
class RosenbrockTableau:
    """Coefficients in the form without products with the Jacobian.

    Hairer & Wanner, Solving ODEs II, equation IV.7.25: with W = 1/(γ dt) − ∂f/∂x,
    W kᵢ = f(t + cᵢ dt, x + Σ aᵢⱼ kⱼ) + Σ Cᵢⱼ kⱼ / dt + dᵢ dt ∂f/∂t and x1 = x + Σ bᵢ kᵢ.

    Args:
        gamma: γ.
        a: Row ``i`` weighs the increments that the state of stage ``i + 2`` is made of.
        couplings: C, row by row as ``a``.
        b: Weights of the increments in the solution.
        c: Times of the stages, as fractions of the step.
        d: Weights of ∂f/∂t.
        error: Weights of the increments in the error estimate.
        dense: Row ``q`` weighs the increments in the q-th polynomial of dense output:
            x(θ) = (1 − θ) x0 + θ (x1 + (1 − θ) Σ_q θ^q Σ_i dense_qi kᵢ).
    """

    gamma: float
    a: tuple[tuple[float, ...], ...]
    couplings: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    d: tuple[float, ...]
    error: tuple[float, ...]
    dense: tuple[tuple[float, ...], ...]

    @property
    def last_is_end(self) -> bool:
        """Whether the last stage's state is the step's end."""
        return self.c[-1] == 1.0 and (*self.a[-1], 0.0) == self.b


class Rosenbrock(ImplicitAlgorithm):
    """The stepper of Rosenbrock methods: one Jacobian a step, one linear system a stage.

    Nothing is iterated, and autograd sees through all of a step, second derivatives of the field
    included.
    """

    tableau: ClassVar[RosenbrockTableau]
    lower_order: ClassVar[int]

    @property
    def embedded_order(self) -> int | None:
        """Order of the embedded solution."""
        return self.lower_order

    @property
    def interpolation_order(self) -> int:
        """The degree of its own interpolant."""
        return len(self.tableau.dense) + 1

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step."""
        tableau, field = self.tableau, counted(rhs)
        start = field(t, x) if slope is None else slope
        at = field.linearize(t, x)
        matrix = Shifted.of(field, at, 1 / (tableau.gamma * dt))
        drift, now = at.by_time.reshape(x.shape), start
        increments: list[Tensor] = []
        for stage, c in enumerate(tableau.c):
            if stage:
                now = field(t + c * dt, weighted_sum(x, 1.0, tableau.a[stage - 1], increments))
            right = now.add(drift, alpha=tableau.d[stage] * dt)
            if stage:
                right = weighted_sum(right, 1 / dt, tableau.couplings[stage - 1], increments)
            increments.append(matrix.solve(right))
        x1 = void_where(matrix.singular, weighted_sum(x, 1.0, tableau.b, increments))
        with torch.no_grad():
            error = weighted_sum(torch.zeros_like(x), 1.0, tableau.error, increments)
        end = now if tableau.last_is_end else None
        slopes = (start, *increments)
        return Step(t, dt, x, x1, slopes, error, end, failure=matrix.failure)

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State at a time within ``step``, by the method's own interpolant; no evaluation."""
        if t in (step.t, step.t1):
            return super().interpolate(rhs, step, t)
        theta = (t - step.t) / step.dt
        within = [
            sum(theta**power * row[i] for power, row in enumerate(self.tableau.dense))
            for i in range(len(self.tableau.b))
        ]
        chord = torch.lerp(step.x0, step.x1, theta)
        return weighted_sum(chord, theta * (1 - theta), within, step.slopes[1:])

    @property
    def dense_powers(self) -> np.ndarray:
        """The same interpolant by powers of θ: of the chord, and of each increment."""
        dense = np.array(self.tableau.dense)
        powers = np.zeros((len(dense) + 1, 1 + dense.shape[1]))
        powers[0, 0] = 1.0
        powers[:-1, 1:] += dense
        powers[1:, 1:] -= dense
        return powers

    def dense_parts(self, step: Step) -> list[Tensor]:
        """Return the chord, and the increments."""
        return [step.x1 - step.x0, *step.slopes[1:]]
