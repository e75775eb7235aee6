"""From a recipe's tables to the parts of a block: solver, divergence, quadrature, penalties."""

from rnode_dyn.flows.divergence import Divergence, ExactDivergence, HutchinsonDivergence
from rnode_dyn.flows.end_time import EndTime, Uniform
from rnode_dyn.flows.quadrature import Quadrature
from rnode_dyn.flows.regularizers import (
    DirectionalDerivative,
    JacobianFrobenius,
    KineticEnergy,
    Regularizer,
    TotalDerivative,
)
from rnode_dyn.flows.solver_estimates import ErrorEstimate, Stiffness
from rnode_dyn.flows.taylor import TaylorDerivative
from rnode_dyn.flows.trajectory_polynomial import TrajectoryPolynomial
from rnode_dyn.numerics.algorithms.bogacki_shampine import BS5
from rnode_dyn.numerics.algorithms.classic import (
    RK4,
    RK38,
    AdaptiveHeun,
    Bosh3,
    Euler,
    Heun,
    Midpoint,
    Ralston2,
    Ralston3,
    Ralston4,
)
from rnode_dyn.numerics.algorithms.dormand_prince import Dopri5, Dopri8
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.algorithms.strong_stability import SSPRK33, SSPRK54
from rnode_dyn.numerics.algorithms.tsitouras import Tsit5
from rnode_dyn.numerics.algorithms.verner7 import Vern7
from rnode_dyn.numerics.algorithms.verner9 import Vern9
from rnode_dyn.numerics.sensitivity.backsolve import BacksolveAdjoint
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from rnode_dyn.numerics.sensitivity.checkpointed import CheckpointedAdjoint
from rnode_dyn.numerics.sensitivity.discrete import DiscreteAdjoint
from rnode_dyn.numerics.sensitivity.interpolating import InterpolatingAdjoint
from rnode_dyn.numerics.sensitivity.reversible import ReversibleAdjoint
from rnode_dyn.numerics.solve import Solver
from rnode_dyn.numerics.stepping.adaptive import AdaptiveStep
from rnode_dyn.numerics.stepping.base import Stepping
from rnode_dyn.numerics.stepping.fixed import FixedStep
from rnode_dyn.recipe.divergence import EvalDivergenceRecipe
from rnode_dyn.recipe.model import RegularizersRecipe
from rnode_dyn.recipe.names import ADAPTIVE_KEYS
from rnode_dyn.recipe.quadrature import QuadratureRecipe
from rnode_dyn.recipe.solver import SolverRecipe, SteppingRecipe

ALGORITHMS: dict[str, type[ExplicitRungeKutta]] = {
    "euler": Euler,
    "midpoint": Midpoint,
    "heun": Heun,
    "rk4": RK4,
    "rk38": RK38,
    "ralston2": Ralston2,
    "ralston3": Ralston3,
    "ralston4": Ralston4,
    "ssprk33": SSPRK33,
    "ssprk54": SSPRK54,
    "adaptive_heun": AdaptiveHeun,
    "bosh3": Bosh3,
    "dopri5": Dopri5,
    "tsit5": Tsit5,
    "dopri8": Dopri8,
    "bs5": BS5,
    "vern7": Vern7,
    "vern9": Vern9,
}

# Those that solve by the algorithm's own steps; the reversible one steps a pair of states.
SENSITIVITIES: dict[str, Sensitivity] = {
    "discrete": DiscreteAdjoint(),
    "checkpointed": CheckpointedAdjoint(),
    "backsolve": BacksolveAdjoint(),
    "interpolating": InterpolatingAdjoint(),
}

# The two that every run reports are integrated whatever their weight: they cost no evaluation.
_ALWAYS: dict[str, type[Regularizer]] = {
    "kinetic_energy": KineticEnergy,
    "jacobian_frobenius": JacobianFrobenius,
}
_IF_WEIGHTED: dict[str, type[Regularizer]] = {
    "directional_derivative": DirectionalDerivative,
    "total_derivative": TotalDerivative,
    "taylor_derivative": TaylorDerivative,
    "error_estimate": ErrorEstimate,
    "stiffness": Stiffness,
    "trajectory_polynomial": TrajectoryPolynomial,
}
# What they are built with besides, by the names of keys.
_SETTINGS: dict[str, dict[str, str]] = {
    "taylor_derivative": {"order": "taylor_order"},
    "trajectory_polynomial": {"degree": "trajectory_degree"},
}


# Where solver.step = "auto"; the training's governor goes on from here.
_STEPS_TO_BEGIN_WITH = 2


def build_solver(recipe: SteppingRecipe, sensitivity: Sensitivity, end_time: float) -> Solver:
    """Build a solver; its sensitivity is the training's."""
    return Solver(ALGORITHMS[recipe.algorithm](), _build_stepping(recipe, end_time), sensitivity)


def _build_stepping(recipe: SteppingRecipe, end_time: float) -> Stepping:
    if recipe.step == "auto":
        return FixedStep(end_time / _STEPS_TO_BEGIN_WITH)
    if recipe.step is not None:
        return FixedStep(recipe.step)
    given = {name: getattr(recipe, name) for name in ADAPTIVE_KEYS}
    return AdaptiveStep(**{name: value for name, value in given.items() if value is not None})


def build_end(end_time: float | tuple[float, float]) -> EndTime:
    """Build when a block's flow ends, in training."""
    return Uniform(*end_time) if isinstance(end_time, tuple) else end_time


def build_sensitivity(recipe: SolverRecipe) -> Sensitivity:
    """Build how a solve is differentiated."""
    if recipe.sensitivity == "checkpointed":
        return CheckpointedAdjoint(recipe.checkpoint_every or 1)
    if recipe.sensitivity == "reversible":
        return ReversibleAdjoint()
    return SENSITIVITIES[recipe.sensitivity]


def build_divergence(recipe: EvalDivergenceRecipe) -> Divergence:
    """Build how the divergence is found."""
    if recipe.estimator == "exact":
        return ExactDivergence()
    return HutchinsonDivergence(recipe.noise or "gaussian", recipe.probes or 1)


def build_quadrature(recipe: QuadratureRecipe | None) -> Quadrature | None:
    """Build where an integral is taken; ``None``: at the stages."""
    return None if recipe is None else Quadrature(recipe.rule, recipe.nodes)


def build_regularizers(weights: RegularizersRecipe) -> list[Regularizer]:
    """Build the penalties: the two that are always told, and those that are weighted."""
    always = [kind(getattr(weights, name)) for name, kind in _ALWAYS.items()]
    chosen = [
        kind(
            getattr(weights, name),
            **{said: getattr(weights, key) for said, key in _SETTINGS.get(name, {}).items()},
        )
        for name, kind in _IF_WEIGHTED.items()
        if getattr(weights, name) > 0
    ]
    return [*always, *chosen]
