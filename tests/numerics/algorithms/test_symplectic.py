"""Hamiltonians and the methods that keep their energy: order, invariants, gradients, refusals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from scipy.special import ellipj, ellipk
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Algorithm,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Event,
    FixedStep,
    HamiltonianProblem,
    InterpolatingAdjoint,
    ODEProblem,
    ReversibleAdjoint,
    Rodas5P,
    Sensitivity,
    Solver,
    Tsit5,
    VelocityVerlet,
    Yoshida4,
    solve,
)
from tests.numerics.algorithms.test_order import DIRECTIONS, grid
from tests.numerics.cases import FORWARD, REVERSED, Span, float64, measured_order, relative_error

SYMPLECTIC = (VelocityVerlet(), Yoshida4())
EACH = pytest.mark.parametrize("algorithm", SYMPLECTIC, ids=str)
EXACT = (DiscreteAdjoint(), CheckpointedAdjoint(every=3), ReversibleAdjoint())
STEP_SIN = math.sin(0.6)


def half_square(p: Tensor) -> Tensor:
    return p.square().sum(1) / 2


def swing(q: Tensor) -> Tensor:
    return (1 - q.cos()).sum(1)


def attraction(q: Tensor) -> Tensor:
    return -1 / q.norm(dim=1)


def exact_pendulum(t: float) -> Tensor:
    """The pendulum let go at an angle of 1.2."""
    sn, cn, _, _ = ellipj(ellipk(STEP_SIN**2) - t, STEP_SIN**2)
    return float64([[2 * math.asin(STEP_SIN * sn), -2 * STEP_SIN * cn]])


def pendulum(span: Span) -> HamiltonianProblem:
    return HamiltonianProblem(half_square, swing, exact_pendulum(span[0]), span)


def comet(end: float) -> HamiltonianProblem:
    """An orbit of eccentricity 0.3, of period 2π."""
    start = float64([[0.7, 0.0, 0.0, math.sqrt(1.3 / 0.7)]])
    return HamiltonianProblem(half_square, attraction, start, (0.0, end))


def error_at(times: Sequence[float], algorithm: Algorithm, span: Span, count: int) -> float:
    stepping = FixedStep(abs(span[1] - span[0]) / count)
    with torch.no_grad():
        x = solve(pendulum(span), Solver(algorithm, stepping), save_at=times).x
    return float((x - torch.stack([exact_pendulum(t) for t in times])).square().mean().sqrt())


@DIRECTIONS
@EACH
def test_order(algorithm: Algorithm, span: Span) -> None:
    span, counts = (3 * span[0], 3 * span[1]), [24, 48, 96]
    errors = [error_at(grid(span, count)[1:], algorithm, span, count) for count in counts]
    assert measured_order(errors, counts) == pytest.approx(algorithm.order, abs=0.15)


@DIRECTIONS
@EACH
def test_order_of_dense_output(algorithm: Algorithm, span: Span) -> None:
    """Between the steps the error falls as fast as at their ends."""
    span, counts = (3 * span[0], 3 * span[1]), [12, 24, 48]
    errors = [error_at(grid(span, 41)[1:-1], algorithm, span, count) for count in counts]
    assert algorithm.interpolation_order == min(algorithm.order, 3)
    assert measured_order(errors, counts) > algorithm.order - 0.2


def swings_of_energy(algorithm: Algorithm, steps: int, dt: float = 0.05) -> Tensor:
    """How far the energy lies from its value at the start, in each tenth of a solve at most."""
    problem = comet(steps * dt)
    times = grid(problem.span, min(steps // 10, 10_000))
    with torch.no_grad():
        x = solve(problem, Solver(algorithm, FixedStep(dt)), save_at=times).x
    error = (problem.energy(x) - problem.energy(problem.x0)).abs()[1:, 0]
    return error.reshape(10, -1).amax(1)


@pytest.mark.parametrize(
    "steps", [2000, pytest.param(100_000, marks=pytest.mark.slow)], ids=lambda n: f"{n} steps"
)
@EACH
def test_energy_does_not_drift(algorithm: Algorithm, steps: int) -> None:
    error = swings_of_energy(algorithm, steps)
    assert error[0] < (1e-3 if algorithm.order == 2 else 1e-4)
    assert error[-1] < 1.05 * error[0]


def test_energy_drifts_where_nothing_keeps_it() -> None:
    """The test above would see it: RK4 errs more with every orbit."""
    error = swings_of_energy(RK4(), 500, dt=0.1)
    assert error[-1] > 5 * error[0]


@EACH
def test_a_step_is_symplectic(algorithm: Algorithm) -> None:
    """With J the derivative of the end by the start, Jᵀ Ω J = Ω, however coarse the steps."""

    def end(x: Tensor) -> Tensor:
        problem = HamiltonianProblem(half_square, attraction, x[None], (0.0, 1.0))
        return solve(problem, Solver(algorithm, FixedStep(0.5))).x[-1, 0]

    jacobian = torch.func.jacrev(end)(comet(1.0).x0[0])
    eye, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    omega = torch.cat([torch.cat([zero, eye], 1), torch.cat([-eye, zero], 1)])
    assert torch.allclose(jacobian.T @ omega @ jacobian, omega, atol=1e-12)


@EACH
def test_the_way_back_is_the_way(algorithm: Algorithm) -> None:
    problem, solver = comet(5.0), Solver(algorithm, FixedStep(0.25))
    there = solve(problem, solver).x[-1]
    back = solve(replace(problem, x0=there, t_span=(5.0, 0.0)), solver).x[-1]
    assert (there - problem.x0).abs().max() > 0.1
    assert torch.allclose(back, problem.x0, atol=1e-12)


class Landscape(nn.Module):
    """A potential energy that is learned."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(2, 3, generator=draw, dtype=torch.float64))
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, q: Tensor) -> Tensor:
        return torch.tanh(q @ self.mix).square().sum(1) + half_square(q)


def loss_of(landscape: Landscape, mass: Tensor, x0: Tensor, solver: Solver, span: Span) -> Tensor:
    """It sees states on and off the steps; the mass is closed over, and nobody has named it."""
    problem = HamiltonianProblem(lambda p: half_square(p) / mass, landscape, x0, span)
    x = solve(problem, solver, save_at=[0.3, 0.75, 0.9][:: 1 if span == FORWARD else -1]).x
    return (torch.linspace(-1.0, 2.0, x.numel(), dtype=x.dtype).view_as(x) * torch.sin(x)).sum()


def start_of_four() -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(4, 4, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("span", [FORWARD, REVERSED], ids=["forward", "reversed"])
@pytest.mark.parametrize("sensitivity", EXACT, ids=str)
@EACH
def test_steps_are_differentiated_exactly(
    algorithm: Algorithm, sensitivity: Sensitivity, span: Span
) -> None:
    landscape, mass = Landscape(), float64(1.7).requires_grad_()
    x0, solver = start_of_four().requires_grad_(), Solver(algorithm, FixedStep(0.25), sensitivity)
    loss_of(landscape, mass, x0, solver, span).backward()
    assert landscape.unused.grad is None
    wanting = (x0, landscape.mix, mass)
    gradients = [tensor.grad for tensor in wanting]
    directions = [torch.randn_like(tensor) for tensor in wanting]
    losses = []
    with torch.no_grad():
        for nudge in (1e-5, -2e-5):
            for tensor, direction in zip(wanting, directions, strict=True):
                tensor += nudge * direction
            losses.append(loss_of(landscape, mass, x0, solver, span))
    wanted = (losses[0] - losses[1]) / 2e-5
    got = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    assert relative_error(got, wanted) < 1e-7


@EACH
def test_checkpointed_is_discrete(algorithm: Algorithm) -> None:
    found = []
    for sensitivity in (DiscreteAdjoint(), CheckpointedAdjoint(), CheckpointedAdjoint(every=3)):
        landscape, mass = Landscape(), float64(1.7).requires_grad_()
        solver = Solver(algorithm, FixedStep(0.1), sensitivity)
        loss_of(landscape, mass, start_of_four(), solver, FORWARD).backward()
        found.append(torch.cat([landscape.mix.grad.flatten(), mass.grad[None]]))
    assert relative_error(found[1], found[0]) < 1e-12
    assert relative_error(found[2], found[0]) < 1e-12


@pytest.mark.parametrize("sensitivity", [BacksolveAdjoint(), InterpolatingAdjoint()], ids=str)
def test_continuous_adjoints_by_another_method(sensitivity: Sensitivity) -> None:
    found = []
    for each in (DiscreteAdjoint(), sensitivity):
        landscape, mass = Landscape(), float64(1.7).requires_grad_()
        solver = Solver(Tsit5(), AdaptiveStep(1e-9, 1e-9), each)
        loss_of(landscape, mass, start_of_four(), solver, FORWARD).backward()
        found.append(torch.cat([landscape.mix.grad.flatten(), mass.grad[None]]))
    assert relative_error(found[1], found[0]) < 1e-6


@EACH
def test_second_derivatives(algorithm: Algorithm) -> None:
    def end(x0: Tensor) -> Tensor:
        problem = HamiltonianProblem(half_square, swing, x0, (0.0, 1.0))
        return solve(problem, Solver(algorithm, FixedStep(0.5))).x[-1]

    x0 = float64([[0.5, 0.3]]).requires_grad_()
    assert torch.autograd.gradcheck(end, x0)
    assert torch.autograd.gradgradcheck(end, x0)


@EACH
def test_no_graph_where_nothing_wants_a_gradient(algorithm: Algorithm) -> None:
    solver = Solver(algorithm, FixedStep(0.25))
    x = solve(pendulum(FORWARD), solver).x
    assert not x.requires_grad
    with torch.inference_mode():
        assert torch.equal(solve(pendulum(FORWARD), solver).x, x)


@pytest.mark.parametrize(
    "solver",
    [
        *(Solver(algorithm, FixedStep(0.1)) for algorithm in (*SYMPLECTIC, Rodas5P())),
        Solver(Tsit5(), AdaptiveStep(1e-6, 1e-6)),
        Solver(Tsit5(), AdaptiveStep(1e-6, 1e-6, per_sample=True)),
        Solver(Tsit5(), FixedStep(0.1), InterpolatingAdjoint()),
    ],
    ids=lambda s: f"{s.algorithm.name} {s.stepping}",
)
def test_q_and_p_apart_are_solved_as_joined(solver: Solver) -> None:
    x0 = start_of_four()
    joined = HamiltonianProblem(half_square, swing, x0, (0.0, 2.0))
    apart = replace(joined, x0=tuple(half.reshape(4, 2) for half in x0.chunk(2, -1)))
    x, (q, p) = solve(joined, solver).x, solve(apart, solver).x
    assert torch.allclose(torch.cat([q, p], -1), x, rtol=1e-12)
    assert torch.allclose(apart.energy((q, p)), joined.energy(x))
    assert torch.allclose(joined.energy(x)[1], joined.energy(x)[0], atol=1e-2)


@EACH
def test_coordinates_of_any_shape(algorithm: Algorithm) -> None:
    def flat(energy: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda z: energy(z.flatten(1))

    x0, solver = start_of_four(), Solver(algorithm, FixedStep(0.1))
    q, p = (half.reshape(4, 1, 2) for half in x0.chunk(2, -1))
    shaped = HamiltonianProblem(flat(half_square), flat(swing), (q, p), (0.0, 1.0))
    x = solve(shaped, solver).x
    wanted = solve(HamiltonianProblem(half_square, swing, x0, (0.0, 1.0)), solver).x
    assert x[0].shape == (2, 4, 1, 2)
    assert torch.equal(torch.cat([half.flatten(2) for half in x], -1), wanted)
    assert shaped.energy(x).shape == (2, 4)


@EACH
def test_what_a_step_costs(algorithm: Algorithm) -> None:
    calls = []

    def counted(q: Tensor) -> Tensor:
        calls.append(len(q))
        return swing(q)

    problem = HamiltonianProblem(half_square, counted, exact_pendulum(0.0), FORWARD)
    stats = solve(problem, Solver(algorithm, FixedStep(0.1)), save_at=[0.05, 0.33, 1.0]).stats
    forces = {2: 1, 4: 3}[algorithm.order]
    assert stats.nfe == len(calls) == 1 + 10 * forces


@EACH
def test_a_constant_energy_has_no_force(algorithm: Algorithm) -> None:
    free = HamiltonianProblem(half_square, lambda q: torch.zeros(len(q)), torch.ones(2, 4), FORWARD)
    with torch.no_grad():
        end = solve(free, Solver(algorithm, FixedStep(0.5))).x[-1]
    assert torch.allclose(end, torch.tensor([2.0, 2.0, 1.0, 1.0]).expand(2, 4))


@EACH
def test_other_fields_are_refused_by_name(algorithm: Algorithm) -> None:
    def spiral(t: Tensor, x: Tensor) -> Tensor:
        return -x

    def pair(t: Tensor, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return x[1], -x[0]

    solver = Solver(algorithm, FixedStep(0.5))
    ones = torch.ones(1, 2)
    for field, x0, name in ((spiral, ones, "spiral"), (pair, (ones, ones), "pair")):
        with pytest.raises(TypeError, match=f"{name}: write HamiltonianProblem"):
            solve(ODEProblem(field, x0, (0.0, 1.0)), solver)


@EACH
def test_what_is_refused_when_the_solver_is_built(algorithm: Algorithm) -> None:
    with pytest.raises(ValueError, match=f"{algorithm.name} has no error estimate"):
        Solver(algorithm, AdaptiveStep())
    for sensitivity in (BacksolveAdjoint(), InterpolatingAdjoint()):
        with pytest.raises(ValueError, match=f"by {algorithm.name}.*DiscreteAdjoint"):
            Solver(algorithm, FixedStep(0.1), sensitivity)
    assert algorithm == type(algorithm)()
    assert hash(algorithm) == hash(type(algorithm)())


@pytest.mark.one_in(2)
@EACH
@pytest.mark.parametrize("end", [9.0, -9.0])
def test_passages_of_a_pendulum(algorithm: Algorithm, end: float) -> None:
    """Through the lowest point, after a quarter of its period and each further half."""
    lowest = Event(lambda t, x: x[:, 0], terminate=False)
    solver = Solver(algorithm, FixedStep(0.03))
    solution = solve(pendulum((0.0, end)), solver, events=[lowest])
    (times,), (states,) = solution.event_times, solution.event_states
    quarter = math.copysign(ellipk(STEP_SIN**2), end)
    wanted = quarter * float64([1.0, 3.0, 5.0])
    accuracy = {2: 1e-3, 4: 1e-5}[algorithm.order]
    torch.testing.assert_close(times[:, 0], wanted, rtol=0, atol=accuracy)
    torch.testing.assert_close(states[:, 0, 0].abs().amax(), float64(0.0), rtol=0, atol=1e-12)
    # The solve itself goes on as it would without looking.
    plain = solve(pendulum((0.0, end)), solver)
    torch.testing.assert_close(solution.x, plain.x, rtol=0, atol=1e-12)


def passages(inputs: Tensor, algorithm: Algorithm, sensitivity: Sensitivity) -> Tensor:
    """Where a batch of two passes its lowest point, and its end, for a weight and starts."""
    weight, start = inputs[0], inputs[1:].reshape(2, 2)
    lowest = Event(lambda t, x: x[:, 0] - 0.01 * t, terminate=False)
    problem = HamiltonianProblem(
        half_square, lambda q: weight * (1 - torch.cos(q)).sum(1), start, (0.0, 4.0)
    )
    solver = Solver(algorithm, FixedStep(0.1), sensitivity)
    solution = solve(problem, solver, events=[lowest])
    parts = [solution.x[-1], solution.event_times[0], solution.event_states[0]]
    return torch.cat([part.nan_to_num().flatten() for part in parts])


@EACH
@pytest.mark.parametrize(
    ("sensitivity", "tolerance"),
    [
        (DiscreteAdjoint(), 1e-7),
        (CheckpointedAdjoint(), 1e-7),
        # Solved again from halt to halt, by other steps than the first time.
        (CheckpointedAdjoint(every=3), 1e-2),
        (ReversibleAdjoint(), 1e-2),
    ],
    ids=str,
)
def test_gradients_of_passages(
    algorithm: Algorithm, sensitivity: Sensitivity, tolerance: float
) -> None:
    """By differences of what is computed."""
    inputs = float64([1.0, 1.2, 0.1, 0.4, -0.2]).requires_grad_()
    result = passages(inputs, algorithm, sensitivity)
    weights = torch.linspace(-1.0, 2.0, len(result), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * result).sum(), inputs)
    along = float64([0.5, -1.0, 0.8, 0.3, 1.0])
    with torch.no_grad():
        ahead, behind = (
            passages(inputs + h * along, algorithm, DiscreteAdjoint()) for h in (1e-5, -1e-5)
        )
    wanted = (weights * (ahead - behind)).sum() / 2e-5
    torch.testing.assert_close(gradient @ along, wanted, rtol=tolerance, atol=0)


def test_events_of_a_hamiltonian_by_another_method() -> None:
    """The pendulum passes the lowest point after a quarter of its period."""
    upright = Event(lambda t, x: x[:, 0])
    solver = Solver(Tsit5(), AdaptiveStep(1e-10, 1e-10))
    solution = solve(pendulum((0.0, 3.0)), solver, events=[upright])
    assert solution.event_times is not None
    assert float(solution.event_times[0]) == pytest.approx(ellipk(STEP_SIN**2), abs=1e-8)


def test_a_step_that_cannot_be_made_again_is_told() -> None:
    def noisy(q: Tensor) -> Tensor:
        return (q * torch.rand_like(q)).sum(1)

    x0 = start_of_four().requires_grad_()
    solver = Solver(VelocityVerlet(), FixedStep(0.25), CheckpointedAdjoint())
    x = solve(HamiltonianProblem(half_square, noisy, x0, (0.0, 1.0)), solver).x
    with pytest.raises(RuntimeError, match="came out different"):
        x.sum().backward()


ONE = torch.ones(3, 2)
REFUSED = {
    "odd": (ValueError, "make a last axis of even length", torch.ones(3, 5), swing),
    "flat": (ValueError, "make a last axis of even length", torch.ones(4), swing),
    "unlike": (ValueError, "two tensors of one shape", (ONE, torch.ones(3, 3)), swing),
    "three": (TypeError, "no pair of tensors", (ONE, ONE, ONE), swing),
    "a dict": (TypeError, "no pair of tensors", {"q": ONE, "p": ONE}, swing),
    "complex": (TypeError, "are real", ONE.to(torch.complex64), swing),
    "integers": (TypeError, "floating", ONE.long(), swing),
    "no energy": (TypeError, "V is 3.0", ONE, 3.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_problems_that_are_none(name: str) -> None:
    kind, said, x0, energy = REFUSED[name]
    with pytest.raises(kind, match=said):
        HamiltonianProblem(half_square, energy, x0, FORWARD)


@pytest.mark.parametrize("solver", [Solver(), Solver(Yoshida4(), FixedStep(0.5))], ids=str)
def test_an_energy_of_another_shape(solver: Solver) -> None:
    for energy in (torch.sum, torch.sin, lambda q: 1.0):
        problem = HamiltonianProblem(half_square, energy, torch.ones(3, 4), FORWARD)
        with pytest.raises(ValueError, match=r"V returned .* of shape \(3,\)"):
            solve(problem, solver)
