"""What a solve says that it cost is what it cost."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Dopri5,
    Dopri8,
    FixedStep,
    ODEProblem,
    Solver,
    solve,
)
from rnode_dyn.numerics.algorithms.runge_kutta import ExplicitRungeKutta
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import (
    ALGORITHMS,
    EMBEDDED,
    FORWARD,
    SENSITIVITIES,
    Counter,
    SmallField,
    small_start,
)

SAVE_AT = [0.0, 0.33, 0.5, 0.9]
STEPPINGS = [FixedStep(0.25), AdaptiveStep(1e-5, 1e-5)]
CELLS = [
    pytest.param(algorithm, stepping, id=f"{algorithm.name}-{type(stepping).__name__}")
    for stepping in STEPPINGS
    for algorithm in (ALGORITHMS if isinstance(stepping, FixedStep) else EMBEDDED)
]


class _Tally(torch.autograd.Function):
    """The identity, which tells when a gradient comes back through it."""

    @staticmethod
    def forward(ctx, counts: "Tallied", x: Tensor) -> Tensor:
        ctx.counts = counts
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, Tensor]:
        ctx.counts.vjps += 1
        return None, grad


class Tallied(nn.Module):
    """A field that counts its evaluations and the gradients that pass it, by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.field = SmallField()
        self.calls = self.vjps = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return _Tally.apply(self, self.field(t, x))


@pytest.mark.one_in(2)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
@pytest.mark.parametrize(("algorithm", "stepping"), CELLS)
def test_every_evaluation_is_counted_once(
    algorithm: ExplicitRungeKutta, stepping: FixedStep | AdaptiveStep, sensitivity: Sensitivity
) -> None:
    field = Tallied()
    problem = ODEProblem(field, small_start().requires_grad_(), FORWARD)
    solution = solve(problem, Solver(algorithm, stepping, sensitivity), save_at=SAVE_AT)
    forward = field.calls
    assert (solution.stats.nfe, solution.stats.nfe_backward, solution.stats.nvjp) == (forward, 0, 0)
    solution.x.sum().backward()
    assert solution.stats.nfe == forward
    assert solution.stats.nfe_backward == field.calls - forward
    assert solution.stats.nvjp == field.vjps > 0


@pytest.mark.parametrize(
    ("algorithm", "evaluations"),
    zip(
        ALGORITHMS, [4, 8, 8, 8, 13, 16, 16, 25, 25, 52, 8, 12, 16, 12, 20, 29, 40, 64], strict=True
    ),
    ids=[algorithm.name for algorithm in ALGORITHMS],
)
def test_what_four_fixed_steps_cost(algorithm: ExplicitRungeKutta, evaluations: int) -> None:
    """Stages times steps; a method whose last slope is the next one's first saves one each."""
    field = Counter(SmallField())
    stats = solve(
        ODEProblem(field, small_start(), FORWARD), Solver(algorithm, FixedStep(0.25))
    ).stats
    assert stats.nfe == field.calls == evaluations
    assert (stats.accepted, stats.rejected) == (4, 0)


@pytest.mark.parametrize("algorithm", EMBEDDED, ids=str)
def test_adaptive_evaluations_are_made_of_steps(algorithm: ExplicitRungeKutta) -> None:
    """Two to begin with, then the stages of each step, less the slope that is already there."""
    stepping = AdaptiveStep(1e-4, 1e-4, first_step=10.0)
    wiggle = ODEProblem(lambda t, x: 40 * torch.cos(40 * t) + 0 * x, small_start(), FORWARD)
    stats = solve(wiggle, Solver(algorithm, stepping)).stats
    tried, stages = stats.accepted + stats.rejected, algorithm.tableau.stages
    restarts = 0 if algorithm.tableau.first_same_as_last else stats.accepted - 1
    assert stats.rejected > 0
    assert stats.nfe == 1 + tried * (stages - 1) + restarts


@pytest.mark.parametrize("every", [1, 3])
def test_checkpointing_remakes_the_accepted_steps_only(every: int) -> None:
    problem = ODEProblem(SmallField(), small_start(), FORWARD)
    stepping = AdaptiveStep(1e-7, 1e-7, first_step=1.0)
    solution = solve(problem, Solver(Dopri8(), stepping, CheckpointedAdjoint(every)))
    accepted, rejected = solution.stats.accepted, solution.stats.rejected
    solution.x[-1].sum().backward()
    assert rejected > 0
    assert (solution.stats.accepted, solution.stats.rejected) == (accepted, rejected)
    assert solution.stats.nfe_backward == 13 * accepted


def test_backpropagation_evaluates_nothing_again() -> None:
    problem = ODEProblem(SmallField(), small_start(), FORWARD)
    solution = solve(problem, Solver(RK4(), FixedStep(0.25), DiscreteAdjoint()))
    solution.x[-1].sum().backward()
    assert (solution.stats.nfe_backward, solution.stats.nvjp) == (0, 16)


def test_every_solve_counts_from_nought() -> None:
    problem, solver = ODEProblem(SmallField(), small_start(), FORWARD), Solver(Dopri5())
    first, second = solve(problem, solver).stats, solve(problem, solver).stats
    assert first == second
    assert first is not second
