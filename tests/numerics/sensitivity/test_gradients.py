"""Every sensitivity gives the gradient, checked against central finite differences."""

from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveHeun,
    AdaptiveStep,
    Bosh3,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    FixedStep,
    ODEProblem,
    Solver,
    Tsit5,
    solve,
)
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import (
    ALGORITHMS,
    CONTINUOUS,
    EMBEDDED,
    EXACT,
    FORWARD,
    REVERSED,
    SENSITIVITIES,
    SmallField,
    Span,
    measured_order,
    relative_error,
    small_start,
)

# The start, times on and off the grid of steps, and not the end.
SAVE_AT = (0.0, 0.3, 0.5, 0.85)
# Of the methods that are tableaux like others, every case is run by the long suite.
LATER = [pytest.param(algorithm, marks=pytest.mark.slow) for algorithm in ALGORITHMS[10:]]
FINE = Solver(Dopri8(), FixedStep(0.05))
DIRECTIONS = pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "reversed"])
EACH_SENSITIVITY = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)


def loss_of(field: nn.Module, x0: Tensor, solver: Solver, span: Span) -> Tensor:
    """A nonlinear loss that sees every saved state, each with its own weight."""
    times = SAVE_AT if span == FORWARD else [1.0 - t for t in SAVE_AT]
    x = solve(ODEProblem(field, x0, span), solver, save_at=times).x
    weights = torch.linspace(-1.0, 2.0, x.numel(), dtype=x.dtype).view_as(x)
    return (weights * torch.sin(2 * x)).sum()


def gradient(solver: Solver, span: Span = FORWARD) -> Tensor:
    """The gradient of the start and of the parameters, as one vector."""
    field, x0 = SmallField(), small_start().requires_grad_()
    loss_of(field, x0, solver, span).backward()
    return torch.cat([g.flatten() for g in (x0.grad, field.mix.grad, field.shift.grad)])


@cache
def differences(solver: Solver, span: Span = FORWARD) -> Tensor:
    """The same by central finite differences, entry by entry."""
    field, x0 = SmallField(), small_start()
    slopes = []
    with torch.no_grad():
        for tensor in (x0, field.mix, field.shift):
            entries = tensor.view(-1)
            for i, entry in enumerate(entries.tolist()):
                losses = []
                for nudge in (1e-5, -1e-5):
                    entries[i] = entry + nudge
                    losses.append(loss_of(field, x0, solver, span))
                entries[i] = entry
                slopes.append((losses[0] - losses[1]) / 2e-5)
    return torch.stack(slopes)


@DIRECTIONS
@pytest.mark.parametrize("sensitivity", EXACT, ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_fixed_steps_are_differentiated_exactly(
    algorithm: ExplicitRungeKutta, sensitivity: Sensitivity, span: Span
) -> None:
    """However coarse the steps: it is the computation that is differentiated."""
    stepping = FixedStep(0.25)
    wanted = differences(Solver(algorithm, stepping), span)
    assert relative_error(gradient(Solver(algorithm, stepping, sensitivity), span), wanted) < 1e-8


@pytest.mark.one_in(3)
@pytest.mark.parametrize("sensitivity", CONTINUOUS, ids=str)
@pytest.mark.parametrize("algorithm", [*ALGORITHMS[:10], *LATER], ids=str)
def test_fixed_steps_bring_the_continuous_adjoint_in_at_the_methods_order(
    algorithm: ExplicitRungeKutta, sensitivity: Sensitivity
) -> None:
    counts = [8, 16, 32] if algorithm.order < 5 else [4, 6, 8]
    counts = [8, 10, 12] if algorithm.order == 7 else counts
    wanted = gradient(FINE)
    errors = [
        relative_error(gradient(Solver(algorithm, FixedStep(1 / n), sensitivity)), wanted)
        for n in counts
    ]
    assert measured_order(errors, counts) > algorithm.order - 0.5


def test_the_fine_gradient_is_that_of_finite_differences() -> None:
    assert relative_error(gradient(FINE), differences(FINE)) < 1e-8


@DIRECTIONS
@EACH_SENSITIVITY
@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "algorithm", [pytest.param(AdaptiveHeun(), marks=pytest.mark.slow), *EMBEDDED[1:]], ids=str
)
def test_adaptive_steps_at_1e_7_give_four_digits_of_the_gradient(
    algorithm: ExplicitRungeKutta, sensitivity: Sensitivity, span: Span
) -> None:
    solver = Solver(algorithm, AdaptiveStep(1e-7, 1e-7), sensitivity)
    assert relative_error(gradient(solver, span), differences(FINE, span)) < 1e-4


@pytest.mark.parametrize("sensitivity", CONTINUOUS, ids=str)
@pytest.mark.parametrize("algorithm", [Bosh3(), Dopri5(), Tsit5(), Dopri8()], ids=str)
def test_continuous_adjoints_converge_as_the_tolerance_shrinks(
    algorithm: ExplicitRungeKutta, sensitivity: Sensitivity
) -> None:
    wanted = gradient(FINE)
    loose, tight = (
        relative_error(gradient(Solver(algorithm, AdaptiveStep(tol, tol), sensitivity)), wanted)
        for tol in (1e-4, 1e-8)
    )
    assert tight < 1e-6
    assert tight < 0.01 * loose


@pytest.mark.one_in(3)
@pytest.mark.parametrize("every", [1, 2, 3, 1000])
@pytest.mark.parametrize("stepping", [FixedStep(0.1), AdaptiveStep(1e-6, 1e-6)], ids=repr)
@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_checkpointed_is_discrete(
    algorithm: ExplicitRungeKutta, stepping: FixedStep | AdaptiveStep, every: int
) -> None:
    discrete = gradient(Solver(algorithm, stepping, DiscreteAdjoint()))
    checkpointed = gradient(Solver(algorithm, stepping, CheckpointedAdjoint(every)))
    assert relative_error(checkpointed, discrete) < 1e-10


@EACH_SENSITIVITY
def test_who_gets_a_gradient(sensitivity: Sensitivity) -> None:
    """An unused and a frozen parameter get none; a start that needs none is left alone."""
    field, x0 = SmallField(), small_start()
    loss_of(field, x0, Solver(sensitivity=sensitivity), FORWARD).backward()
    assert {name for name, p in field.named_parameters() if p.grad is not None} == {"mix", "shift"}
    assert x0.grad is None


@EACH_SENSITIVITY
def test_the_start_alone(sensitivity: Sensitivity) -> None:
    """A field without parameters still passes the gradient to the start."""
    start = small_start().requires_grad_()
    solution = solve(
        ODEProblem(lambda t, x: torch.sin(t) * x, start, FORWARD),
        Solver(Tsit5(), AdaptiveStep(1e-8, 1e-8), sensitivity),
    )
    solution.x[-1].sum().backward()
    growth = torch.exp(1 - torch.cos(torch.ones((), dtype=torch.float64)))
    assert torch.allclose(start.grad, growth.expand_as(start), rtol=1e-6)


@EACH_SENSITIVITY
def test_a_constant_field(sensitivity: Sensitivity) -> None:
    """The slope does not depend on the state at all, and in a graph of its own."""
    start = small_start().requires_grad_()
    solution = solve(
        ODEProblem(lambda t, x: torch.ones_like(x), start, FORWARD), Solver(sensitivity=sensitivity)
    )
    solution.x[-1].sum().backward()
    assert torch.allclose(start.grad, torch.ones_like(start))


@EACH_SENSITIVITY
def test_only_the_start_is_saved(sensitivity: Sensitivity) -> None:
    field, start = SmallField(), small_start().requires_grad_()
    problem = ODEProblem(field, start, FORWARD)
    solve(problem, Solver(sensitivity=sensitivity), save_at=[0.0]).x.sum().backward()
    assert torch.equal(start.grad, torch.ones_like(start))
    assert all(p.grad is None or not p.grad.any() for p in field.parameters())


@EACH_SENSITIVITY
def test_the_graph_goes_on_beyond_the_solve(sensitivity: Sensitivity) -> None:
    """The start may itself be computed, and two solves may share a field."""
    field, leaf = SmallField(), small_start().requires_grad_()
    solver = Solver(Dopri5(), AdaptiveStep(1e-9, 1e-9), sensitivity)
    half = solve(ODEProblem(field, 2 * leaf, (0.0, 0.5)), solver).x[-1]
    solve(ODEProblem(field, half, (0.5, 1.0)), solver).x[-1].sum().backward()
    chained, field_, leaf_ = field.mix.grad, SmallField(), small_start().requires_grad_()
    solve(ODEProblem(field_, 2 * leaf_, FORWARD), FINE).x[-1].sum().backward()
    assert relative_error(chained, field_.mix.grad) < 1e-6
    assert relative_error(leaf.grad, leaf_.grad) < 1e-6


@EACH_SENSITIVITY
def test_backward_twice_through_a_retained_graph(sensitivity: Sensitivity) -> None:
    field, x0 = SmallField(), small_start().requires_grad_()
    loss = loss_of(field, x0, Solver(sensitivity=sensitivity), FORWARD)
    loss.backward(retain_graph=True)
    once = x0.grad.clone()
    loss.backward()
    assert torch.allclose(x0.grad, 2 * once)


@EACH_SENSITIVITY
def test_a_parameter_changed_before_the_backward_pass_is_noticed(sensitivity: Sensitivity) -> None:
    """The gradient would silently be that of another field."""
    field, x0 = SmallField(), small_start().requires_grad_()
    loss = loss_of(field, x0, Solver(sensitivity=sensitivity), FORWARD)
    with torch.no_grad():
        field.mix.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("sensitivity", [*EXACT[1:], *CONTINUOUS], ids=str)
def test_a_second_derivative_is_refused(sensitivity: Sensitivity) -> None:
    field, x0 = SmallField(), small_start().requires_grad_()
    loss = loss_of(field, x0, Solver(sensitivity=sensitivity), FORWARD)
    (slope,) = torch.autograd.grad(loss, x0, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives.*DiscreteAdjoint"):
        torch.autograd.grad(slope.sum(), x0)


def test_the_discrete_adjoint_has_second_derivatives() -> None:
    x0 = small_start().requires_grad_()
    value = partial(loss_of, SmallField(), solver=Solver(RK4(), FixedStep(0.25)), span=FORWARD)
    assert torch.autograd.gradgradcheck(value, x0, atol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@EACH_SENSITIVITY
def test_without_gradients_the_states_are_the_same(
    sensitivity: Sensitivity, mode: Callable[[], torch.no_grad]
) -> None:
    problem = ODEProblem(SmallField(), small_start(), FORWARD)
    recorded = solve(problem, Solver(sensitivity=sensitivity), save_at=SAVE_AT).x
    with mode():
        plain = solve(problem, Solver(sensitivity=sensitivity), save_at=SAVE_AT).x
    assert recorded.requires_grad
    assert not plain.requires_grad
    assert torch.equal(plain, recorded.detach())


class Hides(nn.Module):
    """A module that uses a tensor which it does not hold as a parameter."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = [hidden]

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.cos(t) * self.hidden[0] * x


def _closures(weight: Tensor) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    return {
        "function": lambda t, x: torch.cos(t) * weight * x,
        "method": Hides(weight).forward,
        "late": lambda t, x: -x * weight if t > 0.5 else -x,
        "module": Hides(weight),
    }


@pytest.mark.parametrize("kind", ["function", "method", "module"])
@EACH_SENSITIVITY
def test_a_tensor_that_nobody_named_is_found(sensitivity: Sensitivity, kind: str) -> None:
    """Closed over or held, a leaf or not: what autograd reaches, every sensitivity reaches."""
    leaf = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)

    def loss(solver: Solver) -> Tensor:
        problem = ODEProblem(_closures(leaf.exp())[kind], small_start(), FORWARD)
        return solve(problem, solver).x[-1].square().sum()

    tight = AdaptiveStep(1e-10, 1e-10)
    (gradient,) = torch.autograd.grad(loss(Solver(stepping=tight, sensitivity=sensitivity)), leaf)
    (reached,) = torch.autograd.grad(loss(Solver(stepping=tight)), leaf)
    torch.testing.assert_close(gradient, reached, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sensitivity", [*EXACT[1:], *CONTINUOUS], ids=str)
def test_a_tensor_that_is_used_later_on_is_refused(sensitivity: Sensitivity) -> None:
    """Its gradient would be lost; forward or backward, that must be said."""
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    problem = ODEProblem(_closures(weight)["late"], small_start().requires_grad_(), FORWARD)
    with pytest.raises(ValueError, match="parameters="):
        solve(problem, Solver(sensitivity=sensitivity)).x.sum().backward()


@EACH_SENSITIVITY
def test_a_tensor_that_is_named_gets_its_gradient(sensitivity: Sensitivity) -> None:
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    field = _closures(weight)["function"]
    problem = ODEProblem(field, small_start(), FORWARD, parameters=(weight,))
    solve(problem, Solver(sensitivity=sensitivity)).x[-1].sum().backward()
    assert weight.grad is not None
    assert weight.grad.all()
