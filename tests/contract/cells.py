"""The cells of the contract: a field, a sensitivity, a stepping, and what is asked."""

from dataclasses import dataclass
from typing import Literal

from rnode_dyn import (
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DirectionalDerivative,
    DiscreteAdjoint,
    Dopri5,
    ErrorEstimate,
    ExactDivergence,
    FixedStep,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    JacobianFrobenius,
    KineticEnergy,
    ReversibleAdjoint,
    Sensitivity,
    Solver,
    Stiffness,
    TotalDerivative,
)
from tests.contract.fields import Case
from tests.contract.fields.case import ALL

SENSITIVITIES: dict[str, Sensitivity] = {
    "DiscreteAdjoint": DiscreteAdjoint(),
    "CheckpointedAdjoint": CheckpointedAdjoint(),
    "BacksolveAdjoint": BacksolveAdjoint(),
    "InterpolatingAdjoint": InterpolatingAdjoint(),
    "ReversibleAdjoint": ReversibleAdjoint(),
}
DIVERGENCES = {"exact": ExactDivergence(), "hutchinson": HutchinsonDivergence()}
REGULARIZERS = {
    r.name: r
    for r in (
        KineticEnergy(1.0),
        JacobianFrobenius(1.0),
        DirectionalDerivative(1.0),
        TotalDerivative(1.0),
    )
}
ALONG = {"directional_derivative", "total_derivative"}
# Sums over the steps; what does not differentiate those refuses them.
STEP_PENALTIES = {r.name: r for r in (ErrorEstimate(1.0), Stiffness(1.0))}
OF_THE_STEPS = {"DiscreteAdjoint", "CheckpointedAdjoint"}

END, DT, SEED = 0.4, 0.2, 7


@dataclass(frozen=True)
class Asked:
    """What is asked of a field.

    Attributes:
        divergence: How the log-determinant is computed; ``None``: the state alone is solved for.
        penalties: Names of the penalties.
        times: Whether gradients of times are wanted.
    """

    divergence: Literal["exact", "hutchinson"] | None = None
    penalties: tuple[str, ...] = ()
    times: bool = False

    @property
    def adds(self) -> tuple[str, ...]:
        """Names of what is solved for beside the state."""
        return () if self.divergence is None else ("log_det", *self.penalties)

    def __str__(self) -> str:
        what = self.divergence or "state"
        penalties = "all" if len(self.penalties) == 4 else "+".join(self.penalties)
        return "-".join(filter(None, [what, penalties, "times" * self.times]))


@dataclass(frozen=True)
class Cell:
    """One cell of the contract."""

    case: Case
    sensitivity: str
    adaptive: bool
    asked: Asked

    @property
    def solver(self) -> Solver:
        """How to solve."""
        tolerance = self.case.tolerance
        adaptive = AdaptiveStep(tolerance, tolerance, first_step=DT / 2)
        stepping = adaptive if self.adaptive else FixedStep(DT)
        return Solver(Dopri5(), stepping, SENSITIVITIES[self.sensitivity])

    @property
    def is_refused(self) -> bool:
        """Whether it is to be refused."""
        refused, asked = self.case.refused, self.asked
        sums_steps = not STEP_PENALTIES.keys().isdisjoint(asked.penalties)
        return (
            self.sensitivity in refused.by
            or (sums_steps and (asked.times or self.sensitivity not in OF_THE_STEPS))
            or (refused.times and asked.times)
            or (refused.flow and asked.divergence is not None)
            or (refused.along and bool(ALONG & set(asked.penalties)))
        )

    def __str__(self) -> str:
        steps = "adaptive" if self.adaptive else "fixed"
        return f"{self.case}-{self.sensitivity}-{steps}-{self.asked}"


STATE = (Asked(), Asked(times=True))
FLOW = tuple(
    Asked(divergence, penalties, times)
    for divergence in ("exact", "hutchinson")
    for penalties in ((), *((name,) for name in REGULARIZERS), tuple(REGULARIZERS))
    for times in (False, True)
)
STEPS = tuple(Asked(d, tuple(STEP_PENALTIES)) for d in ("exact", "hutchinson"))
EVERYTHING = (*STATE, *STEPS, *FLOW)

assert set(SENSITIVITIES) == ALL
