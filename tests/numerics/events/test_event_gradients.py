"""Gradients of events in every sensitivity: closed forms, and differences of what is computed."""

from functools import cache

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri8,
    Event,
    FixedStep,
    ODEProblem,
    ReversibleAdjoint,
    Sensitivity,
    Solution,
    Solver,
    Tsit5,
    Vern7,
    solve,
)
from tests.numerics.cases import SENSITIVITIES, float64
from tests.numerics.events.test_events import driven, dropped, height

EACH = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
FINE = AdaptiveStep(1e-9, 1e-9)


def close(ours: Tensor, theirs: Tensor, inputs: list[Tensor], tolerance: float = 1e-7) -> None:
    """Compare values, and gradients with respect to the inputs."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    for got, wanted in zip(
        torch.autograd.grad(ours.sum(), inputs, retain_graph=True),
        torch.autograd.grad(theirs.sum(), inputs, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.one_in(2)
@EACH
@pytest.mark.parametrize("stepping", [FINE, FixedStep(0.5)], ids=["adaptive", "fixed"])
def test_a_fall_by_its_closed_form(sensitivity: Sensitivity, stepping) -> None:
    """In a batch, of which one sample does not land; the weight is a parameter of the field."""
    heights, weight = float64([20.0, 5.0, 1000.0]).requires_grad_(), float64(9.81).requires_grad_()

    def fall(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x[:, 1], -weight.expand(len(x))], 1)

    start = torch.stack([heights, torch.zeros_like(heights)], 1)
    solver = Solver(Tsit5(), stepping, sensitivity)
    ground = Event(height, direction=-1)
    solution = solve(ODEProblem(fall, start, (0.0, 5.0)), solver, [0.5, 1.5, 5.0], events=ground)
    (times,), (states,) = solution.event_times, solution.event_states
    assert torch.isnan(times[2])
    wanted, inputs = torch.sqrt(2 * heights / weight), [heights, weight]
    close(times[:2], wanted[:2], inputs)
    close(states[:2, 1], -weight * wanted[:2], inputs)
    close(solution.x[-1, :2, 1], -weight * wanted[:2], inputs)
    close(solution.x[:, 2, 0], heights[2] - weight / 2 * float64([0.5, 1.5, 5.0]) ** 2, inputs)
    close(solution.x[0, 1], torch.stack([heights[1] - weight / 8, -weight / 2]), inputs)


@EACH
def test_a_decay_reaches_a_level_that_moves(sensitivity: Sensitivity) -> None:
    """The level is known to the condition alone; the solve runs backwards in time."""
    start, rate, level = (float64(v).requires_grad_() for v in ([0.5, 0.3], 0.7, 2.0))
    event = Event(lambda t, x: x[:, 0] - level * (1 + 0.1 * t))
    problem = ODEProblem(lambda t, x: -rate * x, start[:, None], (0.0, -9.0))
    solution = solve(problem, Solver(Tsit5(), FINE, sensitivity), events=[event])
    times = solution.event_times[0]
    # By the implicit function theorem: start exp(−rate t) = level (1 + t/10).
    with torch.no_grad():
        known = times.clone()
    gap = start * torch.exp(-rate * known) - level * (1 + 0.1 * known)
    speed = (-rate * start * torch.exp(-rate * known) - 0.1 * level).detach()
    inputs = [start, rate, level]
    close(gap, torch.zeros_like(gap) + gap - gap.detach(), inputs)
    close(times, known - gap / speed, inputs)
    close(solution.event_states[0][:, 0], level * (1 + 0.1 * (known - gap / speed)), inputs)


@EACH
def test_a_ball_that_bounces(sensitivity: Sensitivity) -> None:
    """Through three bounces that change the state, and on to the end."""
    heights, kept = float64([20.0, 31.0]).requires_grad_(), float64(0.8).requires_grad_()

    def bounce(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(x[:, 0]), -kept * x[:, 1]], 1)

    solver = Solver(Tsit5(), FINE, sensitivity)
    floor = Event(height, direction=-1, apply=bounce)
    solution = solve(dropped(heights, 9.0), solver, save_at=[9.0], events=floor)
    wanted, speed = [torch.sqrt(2 * heights / 9.81)], torch.sqrt(2 * heights * 9.81)
    for _ in range(2):
        speed = kept * speed
        wanted.append(wanted[-1] + 2 * speed / 9.81)
    inputs = [heights, kept]
    times = solution.event_times[0]
    close(times[:2], torch.stack(wanted[:2]), inputs)
    close(times[2, 0], wanted[2][0], inputs)
    # The second has bounced twice at the end, and is on its way down.
    rest = 9.0 - wanted[1][1]
    close(solution.x[0, 1, 0], speed[1] * rest - 9.81 / 2 * rest**2, inputs)


INPUTS = [1.2, 0.4, 0.9, 0.1, 0.3, -0.5, 0.0, 0.2, 1.5]
COARSE = FixedStep(0.2)


@cache
def differences() -> tuple[Tensor, Tensor, Tensor]:
    """All that a solve returns, a direction, and the difference quotient of a weighted sum."""
    along = torch.randn(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        plain, ahead, behind = (
            driven(float64(INPUTS) + h * along, COARSE) for h in (0.0, 1e-5, -1e-5)
        )
    return plain, along, (weights(plain) * (ahead - behind)).sum() / 2e-5


def weights(result: Tensor) -> Tensor:
    return torch.linspace(-1.0, 2.0, len(result), dtype=torch.float64)


@EACH
def test_three_events_by_finite_differences(sensitivity: Sensitivity) -> None:
    """With parameters in field, condition and apply; events that end, change and only note.

    A gradient that is wanted changes no number.
    """
    inputs = float64(INPUTS).requires_grad_()
    plain, along, wanted = differences()
    result = driven(inputs, COARSE, sensitivity)
    torch.testing.assert_close(result.detach(), plain, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad((weights(result) * result).sum(), inputs)
    torch.testing.assert_close(gradient @ along, wanted, rtol=1e-4, atol=1e-4)


@EACH
def test_no_event_leaves_the_gradient_of_the_solve(sensitivity: Sensitivity) -> None:
    heights = float64([20.0]).requires_grad_()
    far = [Event(height), Event(lambda t, x: x[:, 0] - 100, terminate=False)]
    solution: Solution = solve(
        dropped(heights, 1.0), Solver(Tsit5(), FINE, sensitivity), events=far
    )
    assert torch.isnan(solution.event_times[0]).all()
    assert solution.event_times[1].shape == (0, 1)
    close(solution.x[-1, 0, 0], heights[0] - 9.81 / 2, [heights])


@pytest.mark.parametrize("sensitivity", [BacksolveAdjoint(), ReversibleAdjoint()], ids=str)
def test_what_is_solved_again_is_counted_and_steps_are_not(sensitivity: Sensitivity) -> None:
    heights = float64([20.0, 5.0]).requires_grad_()

    def stats(sensitivity: Sensitivity):
        solver = Solver(Tsit5(), FixedStep(0.5), sensitivity)
        return solve(dropped(heights, 3.0), solver, events=[Event(height)]).stats

    once, twice = stats(DiscreteAdjoint()), stats(sensitivity)
    assert (twice.accepted, twice.rejected) == (once.accepted, once.rejected)
    assert twice.nfe > once.nfe
    assert twice.nfe_per_sample is not None
    assert (twice.nfe_per_sample <= twice.nfe).all()


@pytest.mark.parametrize("algorithm", [RK4(), Dopri8(), Vern7()], ids=str)
def test_steps_that_are_made_again_have_the_gradient_of_the_steps(algorithm) -> None:
    """Where dense output evaluates the field by itself, too, and steps are coarse."""
    plain, gradients = [], []
    for sensitivity in (DiscreteAdjoint(), CheckpointedAdjoint()):
        inputs = float64(INPUTS).requires_grad_()
        result = driven(inputs, FixedStep(0.3), sensitivity, algorithm)
        gradients += torch.autograd.grad((weights(result) * result).sum(), inputs)
        plain.append(result.detach())
    torch.testing.assert_close(*plain, rtol=0, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)
    along = torch.randn(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = (
            driven(float64(INPUTS) + h * along, FixedStep(0.3), algorithm=algorithm)
            for h in (1e-5, -1e-5)
        )
    wanted = (weights(ahead) * (ahead - behind)).sum() / 2e-5
    # The interpolant's slope is the field only as far as the steps are accurate.
    torch.testing.assert_close(gradients[0] @ along, wanted, rtol=2e-2, atol=0)


def test_checkpoints_keep_the_steps_starts_alone() -> None:
    """Of what the field computes on the way nothing is kept."""
    kept = []
    wide = torch.nn.Sequential(torch.nn.Linear(2, 512), torch.nn.Tanh(), torch.nn.Linear(512, 2))
    start = torch.rand(8, 2, requires_grad=True)
    for sensitivity in (DiscreteAdjoint(), CheckpointedAdjoint()):
        sizes: list[int] = []
        problem = ODEProblem(lambda t, x: wide(x), start, (0.0, 1.0))
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            solver = Solver(RK4(), FixedStep(0.05), sensitivity)
            solve(problem, solver, events=[Event(lambda t, x: x[:, 0] + 9)])
        kept.append(sum(size for size in sizes if size >= 8 * 512))
    assert kept[1] < kept[0] / 20


@pytest.mark.parametrize(
    "sensitivity", [s for s in SENSITIVITIES if s != DiscreteAdjoint()], ids=str
)
def test_a_field_that_is_changed_before_its_gradient_is_told_of(sensitivity: Sensitivity) -> None:
    rate = torch.nn.Linear(2, 2).double()
    start = float64([[1.0, 0.2]]).requires_grad_()
    problem = ODEProblem(lambda t, x: rate(x), start, (0.0, 1.0))
    solution = solve(problem, Solver(sensitivity=sensitivity), events=[Event(height)])
    with torch.no_grad():
        rate.weight.add_(1.0)
    with pytest.raises(RuntimeError, match=r"changed between|modified by an inplace"):
        solution.x[-1].sum().backward()


def test_noise_is_refused_where_steps_are_made_again() -> None:
    drop = torch.nn.Dropout(0.5)
    start = torch.ones(1, 2, requires_grad=True)
    problem = ODEProblem(lambda t, x: drop(x), start, (0.0, 1.0))
    solver = Solver(sensitivity=CheckpointedAdjoint())
    with pytest.raises(ValueError, match=r"draws random numbers.*FrozenNoise"):
        solve(problem, solver, events=[Event(height)])


@pytest.mark.parametrize("sensitivity", [BacksolveAdjoint(), ReversibleAdjoint()], ids=str)
def test_an_apply_that_draws_is_refused_where_it_is_asked_again(sensitivity: Sensitivity) -> None:
    kick = Event(height, direction=-1, apply=lambda t, x: x.abs() + 1 + torch.rand_like(x))
    heights = float64([5.0]).requires_grad_()
    with pytest.raises(ValueError, match=r"asked again.*DiscreteAdjoint"):
        solve(dropped(heights, 1.2), Solver(sensitivity=sensitivity), events=[kick])


@EACH
def test_no_events_at_all(sensitivity: Sensitivity) -> None:
    heights = float64([5.0, 6.0]).requires_grad_()
    solution = solve(dropped(heights, 1.0), Solver(sensitivity=sensitivity), events=[])
    assert solution.event_times == ()
    close(solution.x[-1, :, 0], heights - 9.81 / 2, [heights])


@pytest.mark.parametrize("points", [0, 10])
@pytest.mark.parametrize("algorithm", [RK4(), Vern7()], ids=str)
def test_looking_leaves_the_graph_as_it_is(algorithm, points: int) -> None:
    """A sample alone: what is evaluated to find its event serves its gradient as well."""
    event = Event(height, apply=lambda t, x: 0.9 * x + 0.05, interp_points=points)

    def end(start: Tensor) -> Tensor:
        def swing(t: Tensor, x: Tensor) -> Tensor:
            return torch.stack([x[:, 1], -torch.sin(x[:, 0])], 1)

        problem = ODEProblem(swing, start[None], (0.0, 6.0))
        return solve(problem, Solver(algorithm, FixedStep(0.2)), events=[event]).x[-1].sum()

    start = float64([1.0, 0.3])
    wanted = (end(start + float64([1e-6, 0])) - end(start - float64([1e-6, 0]))) / 2e-6
    (gradient,) = torch.autograd.grad(end(start.requires_grad_()), start)
    torch.testing.assert_close(gradient[0], wanted, rtol=5e-3, atol=1e-3)
