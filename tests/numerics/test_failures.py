"""A solve that cannot go on stops soon, with an error that says where."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    AdaptiveStep,
    BacksolveAdjoint,
    Dopri5,
    FixedStep,
    ODEProblem,
    ReversibleAdjoint,
    Solver,
    Tsit5,
    solve,
)
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.errors import (
    MaxStepsError,
    NonFiniteStateError,
    SolverError,
    StepSizeUnderflowError,
)
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import ALGORITHMS, EMBEDDED, FORWARD, SENSITIVITIES, Counter, Field, Span

EACH_SENSITIVITY = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
EACH_STEPPING = pytest.mark.parametrize(
    "stepping",
    [FixedStep(0.125), AdaptiveStep(1e-5, 1e-5, max_steps=300)],
    ids=["fixed", "adaptive"],
)
BATCH, CULPRIT = 5, 3


def start(fill: float = 1.0) -> Tensor:
    return torch.full((BATCH, 2), fill, dtype=torch.float64)


def only_the_culprit(t_after: float, wrong: float) -> Field:
    """x' = -x, but for one sample past a time."""
    mask = torch.zeros(BATCH, 2, dtype=torch.bool)
    mask[CULPRIT, 1] = True
    return lambda t, x: torch.where(mask & (t > t_after), x * wrong, -x)


def explosion(t: Tensor, x: Tensor) -> Tensor:
    """The culprit runs to infinity at t = 1/5, the others stand still."""
    return x.square() * (torch.arange(BATCH)[:, None] == CULPRIT) * 5


def van_der_pol(t: Tensor, x: Tensor) -> Tensor:
    place, velocity = x.unbind(-1)
    return torch.stack([velocity, 1e4 * (1 - place.square()) * velocity - place], -1)


def assert_tells_where(error: SolverError, span: Span, nfe: int) -> None:
    assert min(span) <= error.t <= max(span)
    assert math.isfinite(error.dt)
    assert error.dt == 0.0 or (error.dt > 0) == (span[1] > span[0])
    assert error.nfe == nfe
    assert str(error.nfe) in str(error)
    assert f"worst sample: {error.worst_sample}" in str(error)


@EACH_SENSITIVITY
@EACH_STEPPING
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_field_that_stops_being_a_number(
    wrong: float, stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    field = Counter(only_the_culprit(0.5, wrong))
    problem = ODEProblem(field, start().requires_grad_(), FORWARD)
    with pytest.raises(NonFiniteStateError) as caught:
        solve(problem, Solver(Dopri5(), stepping, sensitivity))
    assert_tells_where(caught.value, FORWARD, field.calls)
    assert caught.value.t == pytest.approx(0.5, abs=1e-6)
    assert caught.value.worst_sample == CULPRIT
    assert field.calls < 1000


@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_a_number_no_more_right_after_the_start(algorithm: ExplicitRungeKutta) -> None:
    """No step is short enough, and near zero a double can be very short."""
    field = Counter(only_the_culprit(0.0, math.nan))
    with pytest.raises(NonFiniteStateError) as caught:
        solve(ODEProblem(field, start(), FORWARD), Solver(algorithm))
    assert_tells_where(caught.value, FORWARD, field.calls)
    assert caught.value.dt != 0.0
    assert caught.value.steps < 60


@pytest.mark.parametrize(
    ("algorithm", "stepping"),
    [(a, FixedStep(0.25)) for a in ALGORITHMS] + [(a, AdaptiveStep()) for a in EMBEDDED],
    ids=repr,
)
def test_a_field_that_is_wrong_in_reversed_time(
    algorithm: ExplicitRungeKutta, stepping: FixedStep | AdaptiveStep
) -> None:
    span = (1.0, -1.0)
    mask = torch.arange(BATCH)[:, None] == CULPRIT
    field = Counter(lambda t, x: torch.where(mask & (t < 0.25), math.nan, -x))
    with pytest.raises(NonFiniteStateError) as caught:
        solve(ODEProblem(field, start(), span), Solver(algorithm, stepping))
    assert_tells_where(caught.value, span, field.calls)
    assert caught.value.worst_sample == CULPRIT


@EACH_SENSITIVITY
@EACH_STEPPING
def test_an_explosion(stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity) -> None:
    span = (0.0, 4.0)
    field = Counter(explosion)
    with pytest.raises(SolverError) as caught:
        solve(ODEProblem(field, start(), span), Solver(Dopri5(), stepping, sensitivity))
    assert_tells_where(caught.value, span, field.calls)
    assert caught.value.worst_sample == CULPRIT
    # The pair of states takes two steps for one.
    steps = 600 if isinstance(sensitivity, ReversibleAdjoint) else 300
    assert field.calls <= 7 * steps + 2


@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_a_pole_that_no_step_passes(algorithm: ExplicitRungeKutta) -> None:
    field = Counter(lambda t, x: torch.ones_like(x) / (t - 0.5).square())
    with pytest.raises((StepSizeUnderflowError, NonFiniteStateError)) as caught:
        solve(ODEProblem(field, start(), FORWARD), Solver(algorithm, AdaptiveStep(1e-3, 1e-3)))
    assert_tells_where(caught.value, FORWARD, field.calls)
    assert caught.value.t == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_a_stiff_field_spends_the_steps(algorithm: ExplicitRungeKutta) -> None:
    field = Counter(van_der_pol)
    problem = ODEProblem(field, torch.tensor([[2.0, 0.0]], dtype=torch.float64), (0.0, 1e4))
    with pytest.raises(MaxStepsError, match="stiff") as caught:
        solve(problem, Solver(algorithm, AdaptiveStep(max_steps=200)))
    assert_tells_where(caught.value, (0.0, 1e4), field.calls)
    assert caught.value.steps == 200


def test_a_stiff_field_under_fixed_steps() -> None:
    problem = ODEProblem(van_der_pol, torch.tensor([[2.0, 1.0]], dtype=torch.float64), (0.0, 10.0))
    with pytest.raises(NonFiniteStateError):
        solve(problem, Solver(Dopri5(), FixedStep(0.1)))


@EACH_SENSITIVITY
@EACH_STEPPING
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_start_that_is_no_number(
    wrong: float, stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    x0 = start()
    x0[CULPRIT, 0] = wrong
    problem = ODEProblem(Counter(only_the_culprit(2.0, 1.0)), x0, FORWARD)
    with pytest.raises(NonFiniteStateError, match="start") as caught:
        solve(problem, Solver(Dopri5(), stepping, sensitivity))
    assert_tells_where(caught.value, FORWARD, problem.field.calls)
    assert (caught.value.t, caught.value.worst_sample) == (0.0, CULPRIT)


class BreaksBackward(torch.autograd.Function):
    """-x, whose derivative is no number for the culprit at times before one half."""

    @staticmethod
    def forward(ctx, t: Tensor, x: Tensor, wrong: float) -> Tensor:
        ctx.wrong = wrong if float(t) < 0.5 else -1.0
        return -x

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, Tensor, None]:
        back = -grad
        back[CULPRIT, 1] = ctx.wrong * grad[CULPRIT, 1]
        return None, back, None


@EACH_SENSITIVITY
@EACH_STEPPING
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_derivative_that_is_no_number(
    wrong: float, stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    """The states are sound; the way back is not."""
    field = Counter(lambda t, x: BreaksBackward.apply(t, x, wrong))
    problem = ODEProblem(field, start().requires_grad_(), FORWARD)
    loss = solve(problem, Solver(Dopri5(), stepping, sensitivity)).x[-1].sum()
    with pytest.raises(SolverError, match="backward") as caught:
        loss.backward()
    assert_tells_where(caught.value, FORWARD[::-1], field.calls)
    assert caught.value.t <= 0.5 + 0.125 + 1e-9
    assert caught.value.worst_sample == CULPRIT
    assert field.calls < 5000


@EACH_SENSITIVITY
@EACH_STEPPING
def test_it_is_noticed_where_the_start_is_not_differentiated(
    stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    """Whoever asks for the parameters alone must hear of it too."""
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    problem = ODEProblem(
        lambda t, x: weight * BreaksBackward.apply(t, x, math.nan),
        start().requires_grad_(),
        FORWARD,
        parameters=(weight,),
    )
    loss = solve(problem, Solver(Dopri5(), stepping, sensitivity)).x[-1].sum()
    with pytest.raises(SolverError, match="backward"):
        loss.backward(inputs=[weight])


@EACH_SENSITIVITY
@EACH_STEPPING
@pytest.mark.parametrize("named", [True, False])
def test_a_parameter_whose_gradient_is_no_number(
    named: bool, stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    """The root of nought: the adjoint of the state is sound, that of the parameter infinite."""
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    problem = ODEProblem(
        lambda t, x: -weight.sqrt() * x,
        start().requires_grad_(),
        FORWARD,
        parameters=(weight,) if named else None,
    )
    loss = solve(problem, Solver(Dopri5(), stepping, sensitivity)).x[-1].sum()
    with pytest.raises(NonFiniteStateError, match="backward") as caught:
        loss.backward()
    assert 0.0 <= caught.value.t <= 1.0


def test_looking_at_the_gradient_of_a_parameter_leaves_nothing_on_it() -> None:
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    problem = ODEProblem(lambda t, x: -weight.sqrt() * x, start().requires_grad_(), FORWARD)
    loss = solve(problem, Solver(Dopri5(), FixedStep(0.25))).x[-1].sum()
    assert weight._backward_hooks
    loss.backward()
    del loss
    assert not weight._backward_hooks


def test_a_scaled_gradient_may_overflow() -> None:
    """In float16 autocast it is the scaler that looks at gradients, and skips what overflows."""
    weight = torch.zeros(2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.float16):
        problem = ODEProblem(lambda t, x: -weight.sqrt() * x, start().float(), FORWARD)
        solve(problem, Solver(Dopri5(), FixedStep(0.5))).x[-1].sum().backward()
    assert weight.grad is not None
    assert not weight.grad.isfinite().any()


@EACH_SENSITIVITY
@EACH_STEPPING
def test_a_loss_whose_gradient_is_no_number(
    stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    problem = ODEProblem(lambda t, x: -x * t, start().requires_grad_(), FORWARD)
    x = solve(problem, Solver(Dopri5(), stepping, sensitivity)).x[-1]
    weights = torch.ones_like(x)
    weights[CULPRIT, 0] = math.nan
    with pytest.raises(SolverError, match="backward") as caught:
        (x * weights).sum().backward()
    assert caught.value.worst_sample == CULPRIT


@pytest.mark.parametrize("seminorm", [True, False])
def test_a_backward_solve_that_cannot_find_its_way(seminorm: bool) -> None:
    """A field that contracts strongly explodes when its state is solved backwards."""
    problem = ODEProblem(lambda t, x: -200 * (x - torch.cos(t)), start().requires_grad_(), FORWARD)
    stepping = AdaptiveStep(1e-6, 1e-6, max_steps=400)
    x = solve(problem, Solver(Tsit5(), stepping, BacksolveAdjoint(seminorm))).x[-1]
    with pytest.raises(SolverError, match="in the backward pass"):
        x.sum().backward()


def pickled(error: SolverError) -> SolverError:
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("kind", [NonFiniteStateError, MaxStepsError, StepSizeUnderflowError])
def test_errors_cross_processes(
    kind: type[SolverError], copied: Callable[[SolverError], SolverError]
) -> None:
    error = kind("no more", t=0.5, dt=-1e-3, steps=7, nfe=42, worst_sample=3)
    again = copied(error)
    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert isinstance(error, RuntimeError)


def test_the_sentence_of_an_error() -> None:
    error = MaxStepsError("too many", t=0.25, dt=0.5, steps=7, nfe=42, worst_sample=3)
    assert str(error) == ("too many (t = 0.25, dt = 0.5, 7 steps, 42 evaluations, worst sample: 3)")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_large_sound_state_is_not_taken_for_an_infinite_one(dtype: torch.dtype) -> None:
    """The sum of a big batch may leave the range of numbers that its entries are well within."""
    large = torch.finfo(torch.float16).max / 50 if dtype is torch.float16 else 1e37
    x0 = torch.full((100, 50), large, dtype=dtype)
    x = solve(ODEProblem(lambda t, x: -x, x0, FORWARD), Solver(stepping=AdaptiveStep(0.1, 0.1))).x
    assert torch.allclose(x[-1].double(), x0.double() * math.exp(-1), rtol=0.1)


@pytest.mark.parametrize("first_step", [None, 1.0])
def test_a_short_step_early_in_a_long_span_is_a_step(first_step: float | None) -> None:
    """Near t = 0 a float32 time resolves far shorter steps than it does at the end of the span."""
    layer = ODEProblem(lambda t, x: 1e5 * torch.exp(-1e5 * t) - x, torch.zeros(1, 1), (0.0, 1e3))
    stepping = AdaptiveStep(1e-4, 1e-4, first_step=first_step)
    assert solve(layer, Solver(Dopri5(), stepping)).x[-1].abs() < 1e-2
