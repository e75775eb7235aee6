"""Samples that step by themselves: as if alone, cheaper together, differentiated, or refused."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rnode_dyn import (
    AdaptiveHeun,
    AdaptiveStep,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri8,
    ExactDivergence,
    FrozenNoise,
    HutchinsonDivergence,
    InterpolatingAdjoint,
    MaxStepsError,
    MLPField,
    NonFiniteStateError,
    ODEProblem,
    RegularizedFlow,
    Solution,
    Solver,
    StepSizeUnderflowError,
    Tsit5,
    Vern7,
    solve,
)
from rnode_dyn.numerics.stepping.by_sample.control import SampleControllers
from rnode_dyn.numerics.stepping.controller import PIController
from tests.flows.cases import REGULARIZERS, randomize
from tests.numerics.cases import EMBEDDED, float64, relative_error

SAVE_AT = [0.0, 0.3, 0.31, 0.9, 1.0]
# One of each kind: dense output by a cubic, by slopes at hand, by more stages, by shorter steps.
QUICK = (AdaptiveHeun(), Tsit5(), Vern7(), Dopri8())
FEW = [a if a in QUICK else pytest.param(a, marks=pytest.mark.slow) for a in EMBEDDED]
EACH_EXACT = pytest.mark.parametrize(
    "sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=str
)


class Swing(nn.Module):
    """A forced oscillator a sample, with a rate of its own: the third entry of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(float64(1.3))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        place, speed, rate = x.unbind(-1)
        push = 0.1 * torch.sin(3 * t)
        return torch.stack([speed, push - (self.gain * rate) ** 2 * place, 0 * rate], -1)


def swings(rates: list[float]) -> Tensor:
    return float64([[1.0, 0.0, rate] for rate in rates])


def per_sample(tolerance: float, **settings) -> AdaptiveStep:
    return AdaptiveStep(tolerance, tolerance, per_sample=True, **settings)


def solved(rates: list[float], solver: Solver, backwards: bool = False, field=None) -> Solution:
    span, times = ((1.0, 0.0), SAVE_AT[::-1]) if backwards else ((0.0, 1.0), SAVE_AT)
    return solve(ODEProblem(field or Swing(), swings(rates), span), solver, save_at=times)


@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backwards"])
@pytest.mark.parametrize("algorithm", FEW, ids=str)
def test_every_sample_is_as_if_alone(algorithm, backwards) -> None:
    # An error that is all rounding would choose steps by rounding.
    rates, tolerance = [1.0, 3.0, 6.0, 0.5], 10.0**-algorithm.order
    solver = Solver(algorithm, per_sample(tolerance))
    together = solved(rates, solver, backwards)
    for i, rate in enumerate(rates):
        alone = solved([rate], Solver(algorithm, AdaptiveStep(tolerance, tolerance)), backwards)
        torch.testing.assert_close(together.x[:, i], alone.x[:, 0], rtol=1e-8, atol=1e-9)
        assert together.stats.accepted_per_sample[i] == alone.stats.accepted
        assert together.stats.rejected_per_sample[i] == alone.stats.rejected


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.floats(0.1, 8.0), min_size=2, max_size=5),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4, unique=True),
    st.sampled_from([1e-3, 1e-5]),
)
def test_whatever_the_others_are(rates, times, tolerance) -> None:
    solver, times = Solver(Tsit5(), per_sample(tolerance)), sorted(times)
    together = solve(ODEProblem(Swing(), swings(rates), (0.0, 1.0)), solver, save_at=times).x
    for i, rate in enumerate(rates):
        problem = ODEProblem(Swing(), swings([rate]), (0.0, 1.0))
        alone = solve(problem, solver, save_at=times).x
        torch.testing.assert_close(together[:, i], alone[:, 0], rtol=1e-8, atol=1e-8)


def test_a_batch_of_unequal_stiffness_takes_less_than_half() -> None:
    rates = torch.logspace(0, 1.5, 8).tolist()
    alone = solved(rates, Solver(Tsit5(), per_sample(1e-5)))
    evaluations = int(alone.stats.nfe_per_sample.sum())
    for norm in ("max", "rms"):
        together = solved(rates, Solver(Tsit5(), AdaptiveStep(1e-5, 1e-5, norm=norm)))
        assert 2.2 * evaluations < len(rates) * together.stats.nfe


def test_a_sample_that_has_arrived_is_not_evaluated_any_more() -> None:
    sizes = []

    class Sized(Swing):
        takes_times = True

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(t, x)

    stats = solved([1.0, 30.0], Solver(Tsit5(), per_sample(1e-5)), field=Sized()).stats
    assert sizes[-1] == 1
    assert stats.nfe == len(sizes)
    assert int(stats.nfe_per_sample.sum()) == sum(sizes)
    assert stats.accepted == int(stats.accepted_per_sample.sum())


@cache
def differences(algorithm) -> Tensor:
    """The gradient by central differences, at a tolerance that leaves them six digits."""
    parts = []
    for i in range(4):
        losses = [loss_of(algorithm, DiscreteAdjoint(), i, h)[0].item() for h in (1e-4, -1e-4)]
        parts.append((losses[0] - losses[1]) / 2e-4)
    return float64(parts)


def loss_of(algorithm, sensitivity, entry: int = 0, nudge: float = 0.0) -> tuple[Tensor, ...]:
    """A loss of a start with three rates, and what it depends on, one entry of that nudged."""
    field, x0 = Swing(), swings([0.5, 1.0, 3.0])
    with torch.no_grad():
        (field.gain.view(-1) if entry == 3 else x0[entry, :1]).add_(nudge)
    x0.requires_grad_()
    solver = Solver(algorithm, per_sample(1e-9), sensitivity)
    x = solve(ODEProblem(field, x0, (0.0, 1.0)), solver, save_at=SAVE_AT).x
    weights = torch.linspace(-1.0, 2.0, x.numel(), dtype=x.dtype).view_as(x)
    return (weights * x.sin()).sum(), x0, field.gain


@EACH_EXACT
@pytest.mark.parametrize("algorithm", [Dopri8()], ids=str)
def test_the_gradient_is_that_of_finite_differences(algorithm, sensitivity) -> None:
    loss, x0, gain = loss_of(algorithm, sensitivity)
    by_x0, by_gain = torch.autograd.grad(loss, [x0, gain])
    assert relative_error(torch.cat([by_x0[:, 0], by_gain[None]]), differences(algorithm)) < 1e-5


@pytest.mark.parametrize("algorithm", FEW, ids=str)
def test_the_two_discrete_adjoints_agree_to_rounding(algorithm) -> None:
    gradients = []
    for sensitivity in (DiscreteAdjoint(), CheckpointedAdjoint()):
        field = Swing()
        solver = Solver(algorithm, per_sample(1e-3), sensitivity)
        solved([0.5, 4.0, 9.0], solver, field=field).x.sin().sum().backward()
        gradients.append(field.gain.grad)
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)


def test_a_rejected_step_that_went_astray_leaves_no_trace_in_the_gradient() -> None:
    """At the first, far too long step the field of one sample overflows, and 0 · ∞ is NaN."""
    power = nn.Parameter(float64(9.0))
    x0 = float64([[3.0], [0.1]]).requires_grad_()
    problem = ODEProblem(lambda t, x: -torch.exp(power * x), x0, (0.0, 1.0), (power,))
    solver = Solver(Tsit5(), per_sample(1e-8, first_step=0.9))
    solution = solve(problem, solver)
    solution.x[-1].sum().backward()
    # d/dx0 of −log(e^(−9 x0) + 9 t) / 9.
    wanted = torch.exp(-9 * x0) / (torch.exp(-9 * x0) + 9)
    torch.testing.assert_close(x0.grad, wanted.detach(), rtol=1e-5, atol=1e-10)
    assert torch.isfinite(power.grad)


@EACH_EXACT
@pytest.mark.parametrize(
    ("divergence", "own"),
    [
        pytest.param(ExactDivergence(), True, id="exact-own-product"),
        pytest.param(HutchinsonDivergence(probes=2), False, id="hutchinson-mapped"),
        pytest.param(ExactDivergence(), False, id="exact-mapped", marks=pytest.mark.slow),
        pytest.param(
            HutchinsonDivergence(probes=2),
            True,
            id="hutchinson-own-product",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_flows_with_all_penalties(divergence, own, sensitivity) -> None:
    def carried(stepping: AdaptiveStep) -> Tensor:
        torch.manual_seed(0)
        field = randomize(MLPField(2, hidden=(6,))).double()
        given = field if own else _Rowless(field)
        solver = Solver(Tsit5(), stepping, sensitivity)
        flow = RegularizedFlow(given, solver, divergence, REGULARIZERS)
        x = float64([[0.1, 0.2], [2.0, -1.0], [-3.0, 3.0]]).requires_grad_()
        z, log_det, penalties = flow(x)
        total = z.sin().sum() + log_det.sum() + sum(p.sum() for p in penalties.values())
        total.backward()
        grads = [x.grad, *(p.grad for p in field.parameters())]
        return torch.cat([t.flatten() for t in (z, log_det, *penalties.values(), *grads)])

    together, alone = carried(AdaptiveStep(1e-8, 1e-8)), carried(per_sample(1e-8))
    assert relative_error(alone, together) < 1e-6


class _Rowless(nn.Module):
    """A field that takes one time for all, whatever the field within it takes."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.field(t.reshape(()), x)


def test_the_controllers_are_those_of_one_sample() -> None:
    draw = np.random.default_rng(0)
    ratios = draw.choice([1e-12, 0.3, 1.0, 1.7, 50.0, np.inf], size=(40, 3))
    many = SampleControllers(PIController(5), 3)
    ones = [PIController(5) for _ in range(3)]
    for row in ratios:
        wanted = [
            one.after_acceptance(r) if r <= 1 else one.after_rejection(r)
            for one, r in zip(ones, row.tolist(), strict=True)
        ]
        np.testing.assert_allclose(many.factors(np.arange(3), row), wanted, rtol=1e-12)


def test_each_sample_may_try_max_steps() -> None:
    with pytest.raises(MaxStepsError) as caught:
        solved([1.0, 80.0, 2.0], Solver(Tsit5(), per_sample(1e-9, max_steps=100)))
    assert (caught.value.worst_sample, caught.value.steps) == (1, 100)
    assert 0 < caught.value.t < 1


def test_a_sample_that_explodes_is_named() -> None:
    problem = ODEProblem(lambda t, x: x**2, float64([[0.1], [2.0], [0.2]]), (0.0, 1.0))
    with pytest.raises((NonFiniteStateError, StepSizeUnderflowError)) as caught:
        solve(problem, Solver(Tsit5(), per_sample(1e-6)))
    assert caught.value.worst_sample == 1
    assert caught.value.t == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    "sensitivity",
    [BacksolveAdjoint(), InterpolatingAdjoint(), CheckpointedAdjoint(every=2)],
    ids=str,
)
def test_other_sensitivities_are_refused_when_the_solver_is_built(sensitivity) -> None:
    with pytest.raises(ValueError, match=r"per_sample.*drop per_sample"):
        Solver(Tsit5(), per_sample(1e-5), sensitivity)


def test_a_norm_of_the_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="leave norm out"):
        AdaptiveStep(norm="max", per_sample=True)
    with pytest.raises(TypeError, match="write True"):
        AdaptiveStep(per_sample=1)  # type: ignore[arg-type]


CONDITION = float64([[1.0], [2.0], [3.0]])
SEE_EACH_OTHER = {
    "batch normalisation": nn.Sequential(nn.BatchNorm1d(2, dtype=torch.float64)),
    "mean": lambda t, x: x - x.mean(0),
    "one for each": lambda t, x: t - CONDITION * x,
    "frozen noise": FrozenNoise(nn.Sequential(nn.Dropout(0.5)), seed=0),
}


@pytest.mark.parametrize("field", SEE_EACH_OTHER.values(), ids=SEE_EACH_OTHER)
def test_a_field_whose_samples_cannot_be_told_apart_is_refused(field) -> None:
    x0 = float64([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]])
    with pytest.raises(ValueError, match="drop per_sample"):
        solve(ODEProblem(field, x0, (0.0, 1.0)), Solver(Tsit5(), per_sample(1e-5)))


def test_what_is_held_for_each_sample_can_be_handed_out() -> None:
    class Conditioned:
        takes_times = True

        def __init__(self, condition: Tensor) -> None:
            self.condition = condition

        def __call__(self, t: Tensor, x: Tensor) -> Tensor:
            return -self.condition * x

        def of_samples(self, samples: Tensor) -> "Conditioned":
            return Conditioned(self.condition[samples])

    problem = ODEProblem(Conditioned(CONDITION), torch.ones_like(CONDITION), (0.0, 1.0))
    x = solve(problem, Solver(AdaptiveHeun(), per_sample(1e-6))).x[-1]
    torch.testing.assert_close(x, torch.exp(-CONDITION), rtol=1e-5, atol=1e-6)
