"""Methods for stiff problems: order, stiff accuracy, exact gradients, and what they refuse."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveStep,
    Algorithm,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    FixedStep,
    InterpolatingAdjoint,
    Kvaerno3,
    Kvaerno5,
    MaxStepsError,
    NewtonError,
    ODEProblem,
    Rodas5P,
    Rosenbrock23,
    Sensitivity,
    Solver,
    Tsit5,
    solve,
)
from tests.numerics.algorithms.test_order import (
    BODY,
    DIRECTIONS,
    SWING,
    embedded_error,
    grid,
    solved_error,
)
from tests.numerics.cases import (
    FORWARD,
    REVERSED,
    STIFF,
    Counter,
    Span,
    float64,
    measured_order,
    relative_error,
)
from tests.numerics.sensitivity.test_gradients import differences, gradient

EACH = pytest.mark.parametrize("algorithm", STIFF, ids=lambda a: a.name)
LINEAR = pytest.mark.parametrize("algorithm", [Rosenbrock23(), Rodas5P()], ids=lambda a: a.name)
ITERATED = pytest.mark.parametrize("algorithm", [Kvaerno3(), Kvaerno5()], ids=lambda a: a.name)
DENSE_ORDERS = {"Rosenbrock23": 2, "Kvaerno3": 3, "Kvaerno5": 4, "Rodas5P": 4}
RATES = (0.04, 3e7, 1e4)


class Robertson(nn.Module):
    """Robertson's reaction, its rates as logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.logs = nn.Parameter(float64(RATES).log())

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        (k1, k2, k3), (a, b, c) = self.logs.exp(), x.unbind(-1)
        slow, fast, middle = k1 * a, k2 * b * b, k3 * b * c
        return torch.stack([middle - slow, slow - middle - fast, fast], -1)


ROBERTSON_START = float64([[1.0, 0.0, 0.0]])


def van_der_pol(t: Tensor, x: Tensor) -> Tensor:
    place, velocity = x.unbind(-1)
    return torch.stack([velocity, 1000 * (1 - place * place) * velocity - place], -1)


@DIRECTIONS
@EACH
def test_order(algorithm: Algorithm, span: Span) -> None:
    counts = [16, 32] if algorithm.order < 5 else [12, 24]
    errors = [solved_error(SWING, algorithm, span, count, grid(span, count)) for count in counts]
    assert measured_order(errors, counts) == pytest.approx(algorithm.order, abs=0.3)


@LINEAR
def test_order_of_the_embedded_solution(algorithm: Algorithm) -> None:
    assert algorithm.embedded_order is not None
    counts = [48, 96]
    errors = [embedded_error(algorithm, FORWARD, count) for count in counts]
    assert measured_order(errors, counts) == pytest.approx(algorithm.embedded_order, abs=0.45)


@DIRECTIONS
@EACH
def test_order_of_dense_output(algorithm: Algorithm, span: Span) -> None:
    """The local error is one order higher: the global one falls as fast as that of the steps."""
    counts = [8, 16]
    between = grid(span, 41)[1:-1]
    errors = [solved_error(BODY, algorithm, span, count, between) for count in counts]
    wanted = min(algorithm.order, DENSE_ORDERS[algorithm.name] + 1)
    assert measured_order(errors, counts) > wanted - 0.2
    assert algorithm.interpolation_order == DENSE_ORDERS[algorithm.name]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("sensitivity", "span"),
    [(DiscreteAdjoint(), REVERSED), (CheckpointedAdjoint(every=3), FORWARD)],
    ids=["discrete-reversed", "checkpointed-forward"],
)
@EACH
def test_steps_are_differentiated_exactly(
    algorithm: Algorithm, sensitivity: Sensitivity, span: Span
) -> None:
    """However coarse the steps; through Newton's iteration by the implicit function theorem."""
    stepping = FixedStep(0.5)
    wanted = differences(Solver(algorithm, stepping), span)
    assert relative_error(gradient(Solver(algorithm, stepping, sensitivity), span), wanted) < 1e-8


@EACH
def test_checkpointed_adaptive_is_discrete(algorithm: Algorithm) -> None:
    stepping = AdaptiveStep(1e-4, 1e-4)
    discrete = gradient(Solver(algorithm, stepping))
    checkpointed = gradient(Solver(algorithm, stepping, CheckpointedAdjoint()))
    assert relative_error(checkpointed, discrete) < 1e-9


@ITERATED
def test_roots_as_accurate_as_the_tolerance_have_such_a_gradient(algorithm: Algorithm) -> None:
    wanted = gradient(Solver(Rodas5P(), AdaptiveStep(1e-9, 1e-9)))
    for tolerance in (1e-4, 1e-6):
        got = gradient(Solver(algorithm, AdaptiveStep(tolerance, tolerance)))
        assert relative_error(got, wanted) < 100 * tolerance  # that of the steps themselves


@ITERATED
def test_a_step_that_is_made_again_iterates_nothing(algorithm: Algorithm) -> None:
    """Going back, a stage is evaluated once."""
    x0 = float64([[0.5, 1.0]]).requires_grad_()
    solver = Solver(algorithm, AdaptiveStep(1e-4, 1e-4), CheckpointedAdjoint())
    solution = solve(ODEProblem(lambda t, x: -(x**3), x0, (0.0, 2.0)), solver)
    solution.x[-1].sum().backward()
    stages = len(algorithm.rows) + 1
    assert solution.stats.nfe_backward == stages * solution.stats.accepted


@EACH
@pytest.mark.parametrize("sensitivity", [BacksolveAdjoint(), InterpolatingAdjoint()], ids=str)
def test_continuous_adjoints_are_refused(algorithm: Algorithm, sensitivity: Sensitivity) -> None:
    with pytest.raises(ValueError, match=f"by {algorithm.name}.*DiscreteAdjoint"):
        Solver(algorithm, FixedStep(0.1), sensitivity)


@EACH
def test_steps_of_a_samples_own_are_refused(algorithm: Algorithm) -> None:
    with pytest.raises(ValueError, match=f"{algorithm.name} solves for all samples at one time"):
        Solver(algorithm, AdaptiveStep(per_sample=True))


@pytest.mark.parametrize(
    "algorithm", [Rodas5P(), pytest.param(Kvaerno5(), marks=pytest.mark.slow)], ids=lambda a: a.name
)
def test_robertson_against_scipy(algorithm: Algorithm) -> None:
    field, times = Robertson(), [0.4, 4e2, 4e4]
    scipy = solve_ivp(
        lambda t, x: field(t, torch.from_numpy(x)).detach().numpy(),
        (0.0, 4e4),
        [1.0, 0.0, 0.0],
        method="Radau",
        t_eval=times,
        rtol=1e-7,
        atol=1e-13,
    )
    with torch.no_grad():
        problem = ODEProblem(field, ROBERTSON_START, (0.0, 4e4))
        solution = solve(problem, Solver(algorithm, AdaptiveStep(1e-5, 1e-11)), save_at=times)
    wanted = torch.from_numpy(scipy.y.T)
    assert float(((solution.x[:, 0] - wanted) / wanted).abs().max()) < 5e-4
    assert solution.x.sum(-1).sub(1).abs().max() < 1e-10
    assert solution.stats.nfe < 3000


@LINEAR
def test_an_oscillator_of_relaxation(algorithm: Algorithm) -> None:
    """An explicit method needs steps by the million; the error names those that do not."""
    problem = ODEProblem(van_der_pol, float64([[2.0, 0.0]]), (0.0, 500.0))
    with torch.no_grad():
        solution = solve(problem, Solver(algorithm, AdaptiveStep(1e-4, 1e-6)))
        with pytest.raises(MaxStepsError, match=r"take Rodas5P\(\)"):
            solve(problem, Solver(Tsit5(), AdaptiveStep(1e-4, 1e-6, max_steps=300)))
    assert solution.stats.accepted < 200
    # On the slow branch log x − x²/2 falls by t/μ, up to terms of order 1/μ².
    place = float(solution.x[-1, 0, 0])
    assert math.log(place / 2) - (place**2 - 4) / 2 == pytest.approx(0.5, abs=2e-3)


def test_a_rate_is_learned_from_data() -> None:
    """One of Robertson's rates, a third off, is found from concentrations by its gradient."""
    field = Robertson()
    times = [1.0, 10.0]
    solver = Solver(Rodas5P(), AdaptiveStep(1e-4, 1e-7), CheckpointedAdjoint())
    problem = ODEProblem(field, ROBERTSON_START, (0.0, 10.0))
    with torch.no_grad():
        data = solve(problem, solver, save_at=times).x
        field.logs[0] += 0.3
    for _ in range(4):
        field.logs.grad = None
        error = (solve(problem, solver, save_at=times).x[..., 0] - data[..., 0]).sum()
        error.backward()
        with torch.no_grad():
            assert field.logs.grad is not None
            field.logs[0] -= error / field.logs.grad[0]
    assert field.logs[0].exp().item() == pytest.approx(RATES[0], rel=1e-6)


@EACH
def test_what_a_step_costs(algorithm: Algorithm) -> None:
    field = Counter(lambda t, x: -x)
    with torch.no_grad():
        stats = solve(
            ODEProblem(field, torch.ones(2, 3), (0.0, 1.0)), Solver(algorithm, FixedStep(0.25))
        ).stats
    assert (stats.accepted, stats.njac) == (4, 4)
    if algorithm.name == "Rosenbrock23":
        assert (stats.nfe, stats.nsolve) == (9, 12)
    elif algorithm.name == "Rodas5P":
        assert (stats.nfe, stats.nsolve) == (32, 32)
    else:  # a linear problem is solved by one iteration, which a second one may confirm
        stages = len(algorithm.rows)
        assert stats.nfe == 1 + stats.nsolve  # a step ends with the slope of its last stage
        assert 4 * stages <= stats.nsolve <= 8 * stages


@EACH
def test_a_rejected_step_keeps_its_jacobian(algorithm: Algorithm) -> None:
    problem = ODEProblem(lambda t, x: -50 * (x - torch.cos(9 * t)), torch.ones(1, 2), (0.0, 1.0))
    with torch.no_grad():
        stats = solve(problem, Solver(algorithm, AdaptiveStep(1e-3, 1e-3, first_step=1.0))).stats
    assert stats.rejected > 0
    assert stats.njac == stats.accepted


@EACH
def test_samples_of_any_shape_are_solved_for_by_themselves(algorithm: Algorithm) -> None:
    torch.manual_seed(0)
    mix = torch.randn(4, 4, dtype=torch.float64)

    def field(t: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ mix).view_as(x) - 3 * x

    x0 = torch.randn(3, 2, 1, 2, dtype=torch.float64)
    solver = Solver(algorithm, FixedStep(0.25))
    together = solve(ODEProblem(field, x0, (0.0, 1.0)), solver).x[-1]
    apart = torch.cat([solve(ODEProblem(field, x[None], (0.0, 1.0)), solver).x[-1] for x in x0])
    assert torch.allclose(together, apart, rtol=1e-9)


@EACH
def test_samples_that_depend_on_each_other_are_refused(algorithm: Algorithm) -> None:
    problem = ODEProblem(lambda t, x: x.mean(0) - x * x, torch.rand(3, 2), (0.0, 1.0))
    with pytest.raises(ValueError, match="depends on another sample"):
        solve(problem, Solver(algorithm, FixedStep(0.5)))


class Offering(nn.Module):
    """A field that says its Jacobian by itself, times ``factor``."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.asked = factor, 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return -x * x

    def jacobian(self, t: Tensor, x: Tensor) -> Tensor:
        self.asked += 1
        return self.factor * torch.diag_embed(-2 * x)


def test_a_field_may_offer_its_jacobian() -> None:
    field, solver = Offering(1.0), Solver(Rodas5P(), FixedStep(0.5))
    x0 = torch.rand(3, 2, dtype=torch.float64)
    offered = solve(ODEProblem(field, x0, (0.0, 1.0)), solver).x
    computed = solve(ODEProblem(lambda t, x: -x * x, x0, (0.0, 1.0)), solver).x
    assert field.asked == 2
    assert torch.allclose(offered, computed, rtol=1e-14)
    with pytest.raises(ValueError, match="not the derivative"):
        solve(ODEProblem(Offering(1.1), x0, (0.0, 1.0)), solver)


def test_a_jacobian_of_another_shape_is_refused() -> None:
    field = Offering(1.0)
    field.jacobian = lambda t, x: -2 * x  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"returned \(3, 2\).*\(3, 2, 2\)"):
        solve(ODEProblem(field, torch.rand(3, 2), (0.0, 1.0)), Solver(Rodas5P(), FixedStep(0.5)))


@EACH
def test_a_singular_matrix(algorithm: Algorithm) -> None:
    """With x' = x / (γ dt) a step of this length has no solution; a shorter one has."""
    gamma = algorithm.gamma if hasattr(algorithm, "gamma") else algorithm.tableau.gamma
    dt = 2.0**-4
    growth = float64([[0.0], [1 / (gamma * dt)]])
    problem = ODEProblem(lambda t, x: growth * x, torch.ones_like(growth), (0.0, dt))
    with pytest.raises(NewtonError, match="singular") as caught:
        solve(problem, Solver(algorithm, FixedStep(dt)))
    assert (caught.value.t, caught.value.dt, caught.value.worst_sample) == (0.0, dt, 1)
    stepping = AdaptiveStep(1e-6, 1e-6, first_step=dt)
    solution = solve(problem, Solver(algorithm, stepping))
    assert solution.stats.rejected > 0
    assert torch.allclose(solution.x[-1], torch.exp(growth * dt), rtol=1e-3)


@ITERATED
def test_newton_gives_up(algorithm: Algorithm) -> None:
    problem = ODEProblem(lambda t, x: torch.sin(40 * x), float64([[0.0], [2.0]]), (0.0, 2.0))
    with pytest.raises(NewtonError, match="has not settled in 10 iterations") as caught:
        solve(problem, Solver(algorithm, FixedStep(2.0)))
    assert caught.value.worst_sample == 1
    adaptive = solve(problem, Solver(algorithm, AdaptiveStep(1e-6, 1e-6, first_step=2.0)))
    assert adaptive.stats.rejected > 0
    assert adaptive.x[-1, 0].item() == 0.0
    with pytest.raises(ValueError, match="newton_iterations is 0"):
        type(algorithm)(newton_iterations=0)


@ITERATED
def test_second_derivatives_through_newton_are_refused(algorithm: Algorithm) -> None:
    x0 = float64([[0.5]]).requires_grad_()
    end = solve(ODEProblem(lambda t, x: -(x**3), x0, (0.0, 1.0)), Solver(algorithm, FixedStep(0.5)))
    (first,) = torch.autograd.grad(end.x[-1].sum(), x0, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives.*Rodas5P\(\).*twice"):
        first.sum().backward()


@LINEAR
def test_second_derivatives_of_methods_that_iterate_nothing(algorithm: Algorithm) -> None:
    def end(x0: Tensor) -> Tensor:
        problem = ODEProblem(lambda t, x: -(x**3), x0, (0.0, 1.0))
        return solve(problem, Solver(algorithm, FixedStep(0.5))).x[-1]

    x0 = float64([[0.5]]).requires_grad_()
    assert torch.autograd.gradcheck(end, x0)
    assert torch.autograd.gradgradcheck(end, x0)


@ITERATED
def test_transforms_are_refused_where_something_is_iterated(algorithm: Algorithm) -> None:
    def end(x0: Tensor) -> Tensor:
        problem = ODEProblem(lambda t, x: -x, x0, (0.0, 1.0))
        return solve(problem, Solver(algorithm, FixedStep(0.5))).x[-1]

    with pytest.raises(RuntimeError, match="cannot be read within"):
        torch.func.jacrev(end)(torch.ones(1, 2))


@EACH
def test_methods_are_equal_by_what_they_are(algorithm: Algorithm) -> None:
    assert algorithm == type(algorithm)()
    assert hash(algorithm) == hash(type(algorithm)())
    assert algorithm != Tsit5()
    assert algorithm.name in repr(algorithm)
    assert algorithm.is_implicit
    assert not Tsit5().is_implicit
