"""Penalties of steps and of states: closed forms, finite differences, and what they do not go with.

How the steps' own are computed over any field is compared in tests/contract.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    BS5,
    RK4,
    RK38,
    AdaptiveStep,
    AutoSwitch,
    BacksolveAdjoint,
    Bosh3,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    ErrorEstimate,
    Euler,
    ExactDivergence,
    FixedStep,
    KineticEnergy,
    MLPField,
    Quadrature,
    RegularizedFlow,
    RegularizedODE,
    Regularizer,
    Rodas5P,
    Solver,
    Stiffness,
    TrajectoryPolynomial,
    Tsit5,
    Vern7,
    penalty,
)
from rnode_dyn.flows.share import Share, sharing
from rnode_dyn.flows.solve_penalties import SolvePenalty
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.flows.cases import SENSITIVITIES, SmallField, name_of, randomize

OF_STEPS = [s for s in SENSITIVITIES if s.differentiates_steps]
EMBEDDED = [Bosh3(), Dopri5(), Tsit5(), Dopri8(), BS5(), Vern7()]
WITH_A_PAIR = [RK4(), Dopri5(), Tsit5(), BS5(), Vern7()]
PENALTIES = [ErrorEstimate(1.0), Stiffness(1.0), TrajectoryPolynomial(1.0, degree=2)]


def penalties_of(flow: RegularizedFlow, x: Tensor) -> dict[str, Tensor]:
    return flow(x).penalties


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
@pytest.mark.parametrize("algorithm", EMBEDDED, ids=name_of)
def test_the_error_of_linear_growth_is_that_of_the_stability_polynomials(
    algorithm: ExplicitRungeKutta, back: bool
) -> None:
    rate, steps, x = 0.8, 2, torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    solver = Solver(algorithm, FixedStep(1 / steps))
    flow = RegularizedFlow(lambda t, x: rate * x, solver, ExactDivergence(), [ErrorEstimate(1.0)])
    found = (flow.inverse if back else flow)(x).penalties["error_estimate"]
    tableau, z = algorithm.tableau, rate / steps * (-1 if back else 1)
    A = np.zeros((tableau.stages, tableau.stages))
    for i, row in enumerate(tableau.a, start=1):
        A[i, : len(row)] = row
    stages = np.linalg.solve(np.eye(tableau.stages) - z * A, np.ones(tableau.stages))
    wrong = abs(z * np.array(tableau.error) @ stages)
    grows = 1 + z * np.array(tableau.b) @ stages
    # The log-determinant is known exactly, and counts as one entry more.
    size = x.square().sum(1).sqrt() / np.sqrt(3)
    expected = sum(wrong * abs(grows) ** step for step in range(steps)) / steps * size
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("algorithm", WITH_A_PAIR, ids=name_of)
def test_the_stiffness_of_linear_growth_is_its_rate(algorithm: ExplicitRungeKutta) -> None:
    solver = Solver(algorithm, FixedStep(0.25))
    flow = RegularizedFlow(lambda t, x: -4 * x, solver, regularizers=[Stiffness(1.0)], end_time=0.5)
    found = penalties_of(flow, torch.randn(3, 2))["stiffness"]
    torch.testing.assert_close(found, torch.full((3,), 2.0), rtol=1e-6, atol=0)


def test_stiffness_is_at_most_the_norm_of_the_jacobian() -> None:
    matrix = torch.randn(5, 5)
    layer = RegularizedODE(lambda t, x: x @ matrix, Solver(Tsit5()), [Stiffness(1.0)])
    layer(torch.randn(50, 5))
    norm = torch.linalg.matrix_norm(matrix, 2)
    assert 0.1 * norm < penalty(layer) < norm


@pytest.mark.parametrize("kind", [ErrorEstimate, Stiffness, TrajectoryPolynomial])
def test_a_constant_field_costs_nothing_and_has_a_gradient(kind: type[SolvePenalty]) -> None:
    field = MLPField(2)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.zero_()
    layer = RegularizedODE(field, Solver(Dopri5(), FixedStep(0.5)), [kind(1.0)])
    layer(torch.randn(3, 2))
    penalty(layer).backward()
    assert penalty(layer) < 1e-20
    assert all(torch.isfinite(p.grad).all() for p in field.parameters() if p.grad is not None)


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
@pytest.mark.parametrize(("degree", "samples"), [(1, None), (1, 4), (2, 2), (3, None)])
def test_polynomial_trajectories_miss_by_their_residuals(
    degree: int, samples: int | None, back: bool
) -> None:
    """The trajectory x + t² + t³ is known, and what NumPy's fit leaves of it."""
    given = TrajectoryPolynomial(1.0, degree, samples)  # type: ignore[arg-type]
    solver = Solver(Tsit5(), FixedStep(0.25))
    field = lambda t, x: (2 * t + 3 * t**2).expand_as(x)  # noqa: E731
    flow = RegularizedFlow(field, solver, regularizers=[given], end_time=2.0)
    x = torch.randn(3, 2)
    state = torch.get_rng_state()
    found = flow.inverse(x) if back else flow(x)
    torch.set_rng_state(state)
    torch.randn(1, 3, 2)  # the divergence's noise is drawn first
    inner = given.draw(x)
    places = np.array([0.0, *inner, 1.0])
    t = 2 * (1 - places if back else places)
    path = t**2 + t**3
    missed = path - np.polynomial.Polynomial.fit(t, path, degree)(t)
    expected = torch.full((3,), float(np.mean(missed**2)))
    torch.testing.assert_close(
        found.penalties["trajectory_polynomial"], expected, rtol=1e-6, atol=1e-12
    )


def difference_of(
    build: Callable[[nn.Module], Callable[[Tensor], Tensor]],
) -> tuple[float, float]:
    """The slope of a penalty along a direction of the parameters, by gradient and difference."""

    def value(by: float) -> tuple[nn.Module, Tensor, list[Tensor]]:
        torch.manual_seed(4)
        field, x = randomize(SmallField(3)), torch.randn(4, 3)
        trained = [p for p in field.parameters() if p.requires_grad]
        directions = [torch.randn_like(p) for p in trained]
        with torch.no_grad():
            for p, direction in zip(trained, directions, strict=True):
                p.add_(direction, alpha=by)
        return field, build(field)(x), directions

    field, at, directions = value(0.0)
    trained = [p for p in field.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(at, trained, materialize_grads=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    return slope, float((value(1e-5)[1] - value(-1e-5)[1]).detach()) / 2e-5


CELLS = [
    *((s, p) for s in OF_STEPS for p in PENALTIES[:2]),
    *((s, PENALTIES[2]) for s in SENSITIVITIES),
]


@pytest.mark.parametrize("of_flow", [True, False], ids=["flow", "layer"])
@pytest.mark.parametrize(("sensitivity", "given"), CELLS, ids=name_of)
def test_gradients_are_finite_differences(
    sensitivity: Sensitivity, given: SolvePenalty, of_flow: bool
) -> None:
    solver = Solver(Dopri5(), FixedStep(0.125), sensitivity)

    def build(field: nn.Module) -> Callable[[Tensor], Tensor]:
        if of_flow:
            flow = RegularizedFlow(field, solver, ExactDivergence(), [given])
            return lambda x: penalties_of(flow, x)[given.name].sum()
        layer = RegularizedODE(field, solver, [given])

        def call(x: Tensor) -> Tensor:
            layer(x)
            return penalty(layer)

        return call

    slope, difference = difference_of(build)
    assert abs(slope - difference) <= 1e-4 * abs(difference) + 1e-10


@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
def test_the_end_of_a_trajectory_learns(sensitivity: Sensitivity) -> None:
    """The states on the way move with the end, and their polynomial with them."""

    def value(end: Tensor) -> Tensor:
        torch.manual_seed(1)
        field, x = randomize(SmallField(3)), torch.randn(4, 3)
        solver = Solver(Tsit5(), FixedStep(0.05), sensitivity)
        flow = RegularizedFlow(
            field, solver, ExactDivergence(), [TrajectoryPolynomial(1.0)], end_time=end
        )
        return penalties_of(flow, x)["trajectory_polynomial"].sum()

    end = torch.tensor(0.5, requires_grad=True)
    (slope,) = torch.autograd.grad(value(end), end)
    difference = (value(end.detach() + 1e-4) - value(end.detach() - 1e-4)) / 2e-4
    torch.testing.assert_close(slope, difference.detach(), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("given", PENALTIES, ids=name_of)
def test_saved_states_and_the_others_penalties_stay_as_they_are(given: SolvePenalty) -> None:
    field, x, times = randomize(SmallField(3)), torch.randn(4, 3), [0.2, 0.55, 1.0]
    solver = Solver(Tsit5(), AdaptiveStep(1e-4, 1e-4))

    def states(*regularizers: Any) -> tuple[Tensor, Tensor]:
        layer = RegularizedODE(field, solver, regularizers, return_trajectory=True, save_at=times)
        return layer(x), penalty(layer)

    alone, kinetic = states(KineticEnergy(1.0))
    both, total = states(given, KineticEnergy(1.0))
    torch.testing.assert_close(both, alone, rtol=1e-12, atol=1e-12)
    assert total > kinetic


def test_parts_of_a_step_look_at_the_same_times() -> None:
    penalty_, whole = TrajectoryPolynomial(1.0), torch.zeros(4, 2)
    with sharing(Share(0, 2, 4, seed=3)):
        first = penalty_.draw(whole[:2])
    with sharing(Share(2, 2, 4, seed=3)):
        second = penalty_.draw(whole[2:])
    assert first == second


@pytest.mark.parametrize(
    ("given", "arguments", "fragments"),
    [
        ("E", {"solver": Solver(RK4(), FixedStep(0.5))}, ["RK4 does not", "Tsit5()"]),
        ("E", {"eval_solver": Solver(RK4(), FixedStep(0.5))}, ["RK4 does not"]),
        ("S", {"solver": Solver(RK38(), FixedStep(0.5))}, ["same time", "RK38"]),
        ("S", {"solver": Solver(Euler(), FixedStep(0.5))}, ["same time", "Euler"]),
        ("E", {"solver": Solver(Rodas5P())}, ["explicit Runge-Kutta", "Rodas5P"]),
        ("E", {"solver": Solver(AutoSwitch(Tsit5(), Rodas5P()))}, ["explicit Runge-Kutta"]),
        ("S", {"solver": Solver("dopri5")}, ["explicit Runge-Kutta"]),
        ("S", {"solver": Solver(sensitivity=BacksolveAdjoint())}, ["BacksolveAdjoint", "Check"]),
        ("E", {"solver": Solver(stepping=AdaptiveStep(per_sample=True))}, ["per_sample"]),
        ("E", {"end_time": torch.tensor(1.0, requires_grad=True)}, ["lengths of the steps"]),
        ("E", {"quadrature": Quadrature("gauss", 3)}, ["ErrorEstimate", "nodes"]),
        ("T", {"eval_quadrature": Quadrature("gauss", 3)}, ["TrajectoryPolynomial", "nodes"]),
    ],
    ids=lambda value: "",
)
def test_what_they_do_not_go_with(
    given: str, arguments: dict[str, Any], fragments: list[str]
) -> None:
    regularizers = [next(p for p in PENALTIES if type(p).__name__.startswith(given))]
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # the fragments say which
        RegularizedFlow(MLPField(2), regularizers=regularizers, **arguments)
    assert [f for f in fragments if f not in str(refusal.value)] == []
    if arguments.keys() <= {"solver", "end_time"}:
        with pytest.raises(ValueError, match=fragments[0]):
            RegularizedODE(MLPField(2), regularizers=regularizers, **arguments)


@pytest.mark.parametrize("penalty", [ErrorEstimate(1.0), TrajectoryPolynomial(1.0)], ids=repr)
def test_a_quadrature_that_comes_later_is_refused_when_it_solves(penalty: Regularizer) -> None:
    flow = RegularizedFlow(MLPField(2), regularizers=[penalty])
    flow.quadrature = Quadrature("gauss", 3)
    with pytest.raises(ValueError, match="no integral that nodes could take"):
        flow(torch.zeros(1, 2))


def test_times_that_want_a_gradient_are_refused_where_they_are_given() -> None:
    flow = RegularizedFlow(MLPField(2), regularizers=[ErrorEstimate(1.0)])
    with pytest.raises(ValueError, match="lengths of the steps"):
        flow.between(torch.zeros(1, 2), 0.0, torch.tensor(0.5, requires_grad=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"degree": 0}, "degree is 0"),
        ({"degree": 1.5}, "degree is 1.5"),
        ({"samples": "2"}, "samples is '2'"),
        ({"degree": 3, "samples": 2}, "samples is 2, and a polynomial of degree 3"),
        ({"weight": -1.0}, "weight is -1.0"),
    ],
)
def test_wrong_polynomials(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrajectoryPolynomial(**arguments)


def test_checkpoints_far_apart_change_nothing() -> None:
    def gradients(sensitivity: Sensitivity) -> tuple[Tensor, ...]:
        torch.manual_seed(2)
        field, x = randomize(SmallField(3)), torch.randn(4, 3)
        flow = RegularizedFlow(field, Solver(Tsit5(), sensitivity=sensitivity), None, PENALTIES)
        return torch.autograd.grad(
            flow.weigh(penalties_of(flow, x)).sum(),
            [field.mix, field.time],  # type: ignore[list-item]
        )

    torch.testing.assert_close(gradients(CheckpointedAdjoint(3)), gradients(DiscreteAdjoint()))
