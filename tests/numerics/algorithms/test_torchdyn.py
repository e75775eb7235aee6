"""torchdyn takes our algorithms, and we take torchdyn's."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torchdyn.core import NeuralODE
from torchdyn.numerics import odeint
from torchdyn.numerics.solvers import hyper
from torchdyn.numerics.solvers.ode import (
    DormandPrince45,
    Euler,
    ImplicitEuler,
    Midpoint,
    RungeKutta4,
    Tsitouras45,
)

from rnode_dyn import (
    AdaptiveStep,
    BacksolveAdjoint,
    DiscreteAdjoint,
    FixedStep,
    InterpolatingAdjoint,
    ODEProblem,
    Solver,
    solve,
)
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import (
    ALGORITHMS,
    EMBEDDED,
    EXACT,
    FORWARD,
    REVERSED,
    SENSITIVITIES,
    SmallField,
    Span,
    float64,
    relative_error,
)

ONLY_FIXED = [a for a in ALGORITHMS if a not in EMBEDDED]
START = float64([[0.5, -0.3], [0.2, 0.9]])
PRECISE = Solver(stepping=AdaptiveStep(1e-10, 1e-10))
DIRECTIONS = pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "reversed"])


class Autonomous(nn.Module):
    """torchdyn's own rk4 has its stage times wrong, which an autonomous field does not feel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(float64([[0.3, -1.0], [1.2, 0.1]]))

    def forward(self, t: Tensor, x: Tensor, args: object = None) -> Tensor:
        return torch.tanh(x @ self.mix)


def end_by_us(field: nn.Module, solver: Solver, span: Span) -> Tensor:
    return solve(ODEProblem(field, START, span), solver).x[-1]


@DIRECTIONS
@pytest.mark.parametrize("algorithm", ONLY_FIXED, ids=str)
def test_torchdyn_steps_with_ours(algorithm: ExplicitRungeKutta, span: Span) -> None:
    """Equal steps on either side, and so equal states."""
    field = SmallField()
    times = torch.linspace(*span, 11, dtype=torch.float64)
    _, theirs = odeint(field_with_args(field), START, times, algorithm)
    ours = end_by_us(field, Solver(algorithm, FixedStep(0.1)), span)
    assert torch.allclose(theirs[-1], ours, rtol=1e-12, atol=1e-14)


@DIRECTIONS
@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_torchdyn_adapts_with_ours(algorithm: ExplicitRungeKutta, span: Span) -> None:
    field = SmallField()
    times = torch.linspace(*span, 3, dtype=torch.float64)
    tolerance = 1e-4 if algorithm.order < 3 else 1e-7
    _, theirs = odeint(
        field_with_args(field), START, times, algorithm, atol=tolerance, rtol=tolerance
    )
    ours = end_by_us(field, Solver(algorithm, AdaptiveStep(1e-7, 1e-7)), span)
    assert theirs.shape == (3, *START.shape)
    assert torch.allclose(theirs[-1], ours, atol=100 * tolerance)


def field_with_args(field: nn.Module):  # the signature that torchdyn calls
    return lambda t, x, args=None: field(t, x)


@pytest.mark.parametrize("sensitivity", ["autograd", "adjoint"])
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_a_stock_neural_ode_trains_with_ours(
    algorithm: ExplicitRungeKutta, sensitivity: str
) -> None:
    field = Autonomous()
    model = NeuralODE(field, solver=algorithm, sensitivity=sensitivity, atol=1e-5, rtol=1e-5)
    _, x = model(START, torch.linspace(0, 1, 21, dtype=torch.float64))
    x[-1].square().sum().backward()
    theirs = field.mix.grad if field.mix.grad is not None else next(model.parameters()).grad
    again = Autonomous()
    solver = Solver(algorithm, FixedStep(0.05))
    end_by_us(again, solver, FORWARD).square().sum().backward()
    assert relative_error(theirs, again.mix.grad) < (0.1 if algorithm.order < 2 else 1e-2)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_an_algorithm_can_be_copied(algorithm: ExplicitRungeKutta, copied) -> None:
    solver = Solver(copied(algorithm), FixedStep(0.1))
    field = SmallField()
    wanted = end_by_us(field, Solver(algorithm, FixedStep(0.1)), FORWARD)
    assert torch.equal(end_by_us(field, solver, FORWARD), wanted)


NAMES = {
    "euler": Euler,
    "midpoint": Midpoint,
    "rk4": RungeKutta4,
    "ieuler": ImplicitEuler,
    "dopri5": DormandPrince45,
    "tsit5": Tsitouras45,
}


def stepping_for(name: str) -> FixedStep | AdaptiveStep:
    return AdaptiveStep(1e-6, 1e-6) if name in {"dopri5", "tsit5"} else FixedStep(0.01)


@DIRECTIONS
@pytest.mark.parametrize("given", ["name", "object"])
@pytest.mark.parametrize("name", NAMES)
def test_we_solve_with_torchdyns(name: str, given: str, span: Span) -> None:
    algorithm = name if given == "name" else NAMES[name]()
    field = Autonomous()
    solver = Solver(algorithm, stepping_for(name), BacksolveAdjoint())  # type: ignore[arg-type]
    exact = end_by_us(field, PRECISE, span)
    assert torch.allclose(
        end_by_us(field, solver, span), exact, atol=2e-2 if "euler" in name else 1e-4
    )


# The interpolating adjoint's equation depends on time, and there torchdyn's rk4 is wrong.
DIFFERENTIATED = [
    (name, sensitivity)
    for name in NAMES
    for sensitivity in SENSITIVITIES
    if name != "ieuler" and (name, sensitivity) != ("rk4", InterpolatingAdjoint())
]


@pytest.mark.parametrize(("name", "sensitivity"), DIFFERENTIATED, ids=str)
def test_we_differentiate_torchdyns(name: str, sensitivity: Sensitivity) -> None:
    field, reference = Autonomous(), Autonomous()
    solver = Solver(name, stepping_for(name), sensitivity)  # type: ignore[arg-type]
    end_by_us(field, solver, FORWARD).square().sum().backward()
    end_by_us(reference, PRECISE, FORWARD).square().sum().backward()
    assert relative_error(field.mix.grad, reference.mix.grad) < (2e-2 if name == "euler" else 1e-4)


@pytest.mark.parametrize("sensitivity", EXACT, ids=str)
def test_an_optimiser_inside_a_step_is_not_backpropagated_through(sensitivity: Sensitivity) -> None:
    """torchdyn's implicit Euler ends in a fresh leaf: the gradient would silently be nought."""
    solver = Solver("ieuler", FixedStep(0.1), sensitivity)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not see through the steps of ImplicitEuler"):
        end_by_us(Autonomous(), solver, FORWARD)


class Correction(nn.Module):
    """A hypersolver's network: what the base method misses, learnt here from the Taylor series."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(float64(factor))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.factor * x


def linear_decay(t: Tensor, x: Tensor) -> Tensor:
    return -x


@pytest.mark.parametrize(
    ("solver_class", "next_term"),
    [(hyper.HyperEuler, 1 / 2), (hyper.HyperMidpoint, -1 / 6), (hyper.HyperRungeKutta4, -1 / 120)],
)
def test_a_hypersolver_gains_an_order(solver_class: type, next_term: float) -> None:
    """On x' = -x the next term of the series is known: with it, errors shrink tenfold and more."""
    exact = START * torch.exp(float64(-1.0))
    errors = []
    for factor in (0.0, next_term):
        algorithm = solver_class(Correction(factor))
        problem = ODEProblem(linear_decay, START, FORWARD)
        x = solve(problem, Solver(algorithm, FixedStep(0.25))).x[-1]
        errors.append(float((x - exact).abs().max()))
    assert errors[1] < 0.1 * errors[0]


def test_a_hypersolver_trains() -> None:
    correction = Correction(0.0)
    problem = ODEProblem(linear_decay, START, FORWARD)
    solver = Solver(hyper.HyperEuler(correction), FixedStep(0.1), DiscreteAdjoint())
    solve(problem, solver).x[-1].sum().backward()
    assert correction.factor.grad.abs() > 0
