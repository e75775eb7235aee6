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
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.sensitivity import (
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    InterpolatingAdjoint,
)
from rnode_dyn.numerics.solve import Solution, Solver, solve
from rnode_dyn.numerics.stepping import AdaptiveStep, FixedStep
from rnode_dyn.fields.conv import ConvField
from rnode_dyn.fields.mlp import MLPField
from rnode_dyn.flows.divergence import ExactDivergence, HutchinsonDivergence
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.flows.regularizers import (
    DirectionalDerivative,
    JacobianFrobenius,
    KineticEnergy,
    TotalDerivative,
)
from rnode_dyn.flows.distribution import FlowDistribution
from rnode_dyn.flows.multiscale import MultiscaleFlow, Scale
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.flows.transforms import Compose, LogitTransform, Shift, Squeeze, Transform
from rnode_dyn.numerics.errors import (
    MaxStepsError,
    NonFiniteStateError,
    SolverError,
    StepSizeUnderflowError,
)
from rnode_dyn.recipe.build import build_model
from rnode_dyn.recipe.load import load_recipe
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.training.objective import Likelihood, Objective
from rnode_dyn.training.runner import RunResult, run
