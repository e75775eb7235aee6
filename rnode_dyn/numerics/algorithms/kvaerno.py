"""The methods of Kværnø: stages that are solved one after another, the first of them explicit."""

from typing import ClassVar

import torch
from torch import Tensor

from rnode_dyn.numerics.algorithms.base import Step, weighted_sum
from rnode_dyn.numerics.algorithms.implicit import (
    ImplicitAlgorithm,
    Shifted,
    counted,
    void_where,
)
from rnode_dyn.numerics.algorithms.newton import differentiable, iterate
from rnode_dyn.numerics.numbers import whole
from rnode_dyn.numerics.problem import RightHandSide
from rnode_dyn.numerics.stats import CountedField
from rnode_dyn.numerics.transforms import within_transform


class Esdirk(ImplicitAlgorithm):
    """The stepper of methods with a common diagonal γ, whose last two stages end the step.

    One Jacobian and one factored matrix a step serve all stages, by the simplified Newton
    iteration; a stage that it is slow for gets one of its own. Where a gradient is wanted each
    stage is linearized once more, at its root: it is that of the implicit function theorem.

    Args:
        newton_iterations: Iterations of a stage after which it has failed: an adaptive step is
            then tried shorter, a fixed one raises ``NewtonError``.
    """

    gamma: ClassVar[float]
    rows: ClassVar[tuple[tuple[float, ...], ...]]
    dense: ClassVar[tuple[tuple[float, ...], ...]]
    lower_order: ClassVar[int]

    def __init__(self, newton_iterations: int = 10) -> None:
        self.newton_iterations = whole(type(self).__name__, "newton_iterations", newton_iterations)

    @property
    def embedded_order(self) -> int | None:
        """Order of the last stage but one, which ends at the same time."""
        return self.lower_order

    def advance(
        self, rhs: RightHandSide, t: float, dt: float, x: Tensor, slope: Tensor | None = None
    ) -> Step:
        """Make one step."""
        self._refuse_transforms()
        field, shift = counted(rhs), 1 / (self.gamma * dt)
        start = field(t, x) if slope is None else slope
        with torch.no_grad():
            matrix = Shifted.of(field, field.linearize(t, x), shift)
        slopes, states, times = [start], [x], [t]
        failed = matrix.singular
        for row in self.rows:
            base = weighted_sum(x, dt, row, slopes)
            times.append(t + (sum(row) + self.gamma) * dt)
            guess = self._guess(times, states, slopes)
            z, stuck = self._solve(field, times[-1], base, guess, matrix, shift)
            failed = failed | stuck
            states.append(z)
            slopes.append((z - base) * shift)
        with torch.no_grad():
            error = states[-1] - states[-2]
        x1 = void_where(failed, states[-1])
        return Step(
            t, dt, x, x1, (start, *states[1:]), error, failure=_failure(matrix, failed, self)
        )

    def _refuse_transforms(self) -> None:
        if within_transform():
            raise RuntimeError(
                f"{self.name} iterates until its changes are small, which cannot be read within "
                "torch.func's transforms (vmap, jacrev, …): take Rodas5P(), which iterates nothing."
            )

    def _solve(
        self,
        field: CountedField,
        t: float,
        base: Tensor,
        guess: Tensor,
        matrix: Shifted,
        shift: float,
    ) -> tuple[Tensor, Tensor]:
        """Solve z = base + γ dt f(t, z); a gradient, where one is wanted, is that of the root."""
        with torch.no_grad():
            fixed = base.detach()
            z, stuck = iterate(
                lambda z: (fixed - z) * shift + field(t, z),
                matrix,
                lambda z: Shifted.of(field, field.linearize(t, z), shift),
                guess.detach(),
                self.newton_iterations,
            )
        if not torch.is_grad_enabled():
            return z, stuck
        residual = (base - z) * shift + field(t, z)
        if not residual.requires_grad:
            return z, stuck
        with torch.no_grad():
            at_root = Shifted.of(field, field.linearize(t, z), shift)
        return differentiable(residual, z, at_root), stuck

    def _guess(self, times: list[float], states: list[Tensor], slopes: list[Tensor]) -> Tensor:
        """Go on from the stage that is nearest in time, along its slope."""
        nearest = min(range(len(states)), key=lambda i: (abs(times[i] - times[-1]), -i))
        return states[nearest].add(slopes[nearest], alpha=times[-1] - times[nearest])

    def interpolate(self, rhs: RightHandSide, step: Step, t: float) -> Tensor:
        """State at a time within ``step``: a polynomial in the stages' states; no evaluation."""
        if t in (step.t, step.t1):
            return super().interpolate(rhs, step, t)
        theta = (t - step.t) / step.dt
        weights = [sum(c * theta**p for p, c in enumerate(row, 1)) for row in self.dense]
        away = [state - step.x0 for state in step.slopes[1:]]
        return weighted_sum(step.x0, 1.0, weights, away)


def _failure(matrix: Shifted, failed: Tensor, algorithm: Esdirk) -> str | None:
    if matrix.failure is not None or not bool(failed.any()):
        return matrix.failure
    return (
        f"Newton's iteration has not settled in {algorithm.newton_iterations} iterations: take "
        f"shorter steps, or {algorithm.name}(newton_iterations=…)"
    )


# The root of γ³ − 3 γ² + 3/2 γ − 1/6 that makes the method L-stable.
_G = 0.435866521508459


class Kvaerno3(Esdirk):
    """Order 3(2) for stiff problems, L-stable: Kværnø, BIT Numer. Math. 44, 2004.

    Three implicit stages a step. Dense output is a cubic in the stages, of order 3.
    """

    order = 3
    lower_order = 2
    gamma = _G
    rows = (
        (_G,),
        ((6 * _G - 4 * _G**2 - 1) / (4 * _G), (1 - 2 * _G) / (4 * _G)),
        (
            (6 * _G - 1) / (12 * _G),
            -1 / ((24 * _G - 12) * _G),
            (6 * _G - 6 * _G**2 - 1) / (6 * _G - 3),
        ),
    )
    dense = (
        (8.943380330530692, -8.943380330530692, 0.0),
        (-4.398120075195589, 2.2942803602790596, 2.103839714916533),
        (-2.398120075195582, 5.50195979011212, -2.103839714916533),
    )


class Kvaerno5(Esdirk):
    """Order 5(4) for stiff problems, L-stable: Kværnø, BIT Numer. Math. 44, 2004.

    Six implicit stages a step. Dense output is a quartic in the stages, of order 4.
    """

    order = 5
    lower_order = 4
    gamma = 0.26
    # fmt: off
    rows = (
        (0.26,),
        (0.13, 0.84033320996790809),
        (0.22371961478320505, 0.47675532319799699, -0.06470895363112615),
        (0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998),
        (0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141,
         0.61943039072480676),
        (0.13659751177640291, 0.0, -0.05496908796538376, -0.04118626728321046,
         0.62993304899016403, 0.06962479448202728),
    )
    dense = (
        (7.766532752490201, -27.7034735492243, 27.276732949656928, -7.33979215292283),
        (-0.333811060710277, 1.2320860599924328, -2.3820782216925003, 1.4838032224103441),
        (-2.9738747407257327, 8.021639216210962, -4.371514811205709, -0.6762496642795197),
        (-3.071529220937236, 22.422745140130996, -28.76615073492263, 9.414934815728866),
        (0.0, 0.0, 0.0, 0.0),
        (1.3763933615226955, -4.080724394803162, 5.216067439979469, -1.5117364066990018),
    )
    # fmt: on
