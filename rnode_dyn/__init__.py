"""Regularized neural ODEs: continuous normalizing flows that train fast."""

from rnode_dyn import _compat  # noqa: F401  # first: it lets torchvision be imported

from rnode_dyn.numerics.algorithms import (
    RK4,
    AdaptiveHeun,
    Bosh3,
    Dopri5,
    Dopri8,
    Euler,
    Heun,
    Midpoint,
    Tsit5,
)
from rnode_dyn.numerics.errors import (
    MaxStepsError,
    NonFiniteStateError,
    SolverError,
    StepSizeUnderflowError,
)
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity import (
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    InterpolatingAdjoint,
    Sensitivity,
)
from rnode_dyn.numerics.solve import Solution, Solver, solve
from rnode_dyn.numerics.stats import SolveStats
from rnode_dyn.numerics.stepper import Algorithm, ExplicitRungeKutta
from rnode_dyn.numerics.stepping import AdaptiveStep, FixedStep
from rnode_dyn.numerics.tableau import ButcherTableau
from rnode_dyn.fields.conv import ConvField
from rnode_dyn.fields.mlp import MLPField
from rnode_dyn.flows.distribution import FlowDistribution, LogProb
from rnode_dyn.flows.divergence import Divergence, ExactDivergence, HutchinsonDivergence
from rnode_dyn.flows.multiscale import MultiscaleFlow, Scale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.regularizers import (
    DirectionalDerivative,
    JacobianFrobenius,
    KineticEnergy,
    Regularizer,
    TotalDerivative,
)
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.flows.transforms import Compose, LogitTransform, Shift, Squeeze, Transform
from rnode_dyn.data.bits import bits_per_dim
from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.registry import load_data
from rnode_dyn.recipe.build import build_model
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.training.evaluate import Evaluation, evaluate
from rnode_dyn.training.folder import RunError
from rnode_dyn.training.module import FlowTraining
from rnode_dyn.training.flow_matching import FlowMatching
from rnode_dyn.training.objective import Likelihood, Objective
from rnode_dyn.training.runner import RunResult, run

__all__ = [
    "RK4",
    "AdaptiveHeun",
    "AdaptiveStep",
    "Algorithm",
    "BacksolveAdjoint",
    "Bosh3",
    "ButcherTableau",
    "CheckpointedAdjoint",
    "Compose",
    "ConvField",
    "DataError",
    "DirectionalDerivative",
    "DiscreteAdjoint",
    "Divergence",
    "Dopri5",
    "Dopri8",
    "Euler",
    "Evaluation",
    "ExactDivergence",
    "ExplicitRungeKutta",
    "FixedStep",
    "FlowDistribution",
    "FlowMatching",
    "FlowResult",
    "FlowTraining",
    "Heun",
    "HutchinsonDivergence",
    "InterpolatingAdjoint",
    "JacobianFrobenius",
    "KineticEnergy",
    "Likelihood",
    "LogProb",
    "LogitTransform",
    "MLPField",
    "MaxStepsError",
    "Midpoint",
    "MissingDataError",
    "MultiscaleFlow",
    "NonFiniteStateError",
    "ODEProblem",
    "Objective",
    "Recipe",
    "RecipeError",
    "RegularizedFlow",
    "Regularizer",
    "RunError",
    "RunResult",
    "Scale",
    "Sensitivity",
    "Shift",
    "Solution",
    "SolveStats",
    "Solver",
    "SolverError",
    "Squeeze",
    "StepSizeUnderflowError",
    "TotalDerivative",
    "Transform",
    "Tsit5",
    "UniformDequantization",
    "bits_per_dim",
    "build_model",
    "evaluate",
    "load_data",
    "load_recipe",
    "run",
    "solve",
]
