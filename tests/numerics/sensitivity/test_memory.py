"""What a solve keeps for its backward pass, counted in tensors and not by a clock."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    RK4,
    BacksolveAdjoint,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    FixedStep,
    InterpolatingAdjoint,
    ODEProblem,
    ReversibleAdjoint,
    Solver,
    solve,
)
from rnode_dyn.numerics.sensitivity.base import Sensitivity
from tests.numerics.cases import FORWARD, SENSITIVITIES, SmallField, small_start

FEW, MANY = 8, 32
STATE = small_start().numel()


class Held:
    """A saved tensor that tells the ledger when autograd lets it go."""

    def __init__(self, tensor: Tensor, ledger: "Ledger") -> None:
        self.tensor = tensor
        ledger.add(tensor.numel())
        weakref.finalize(self, ledger.add, -tensor.numel())


class Ledger:
    """How many numbers autograd holds for a backward pass, now and at most."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def add(self, numbers: int) -> None:
        self.now += numbers
        self.peak = max(self.peak, self.now)

    @contextmanager
    def watching(self) -> Iterator[None]:
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: Held(tensor.detach(), self), lambda held: held.tensor
        ):
            yield


@pytest.fixture(autouse=True)
def _only_new_objects() -> Iterator[None]:
    """Leave what the test session holds already out of the collector's sight."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def live_numbers() -> int:
    """Numbers in the tensors made since the test began and still alive, each storage once."""
    gc.collect()
    storages = (x.untyped_storage() for x in gc.get_objects() if type(x) is Tensor)
    return sum({s.data_ptr(): s.nbytes() // 8 for s in storages}.values())


def numbers_kept(sensitivity: Sensitivity, steps: int) -> tuple[int, int]:
    """Numbers kept from the forward to the backward pass, and saved at most during it."""
    problem = ODEProblem(SmallField(), small_start().requires_grad_(), FORWARD)
    ledger, before = Ledger(), live_numbers()
    with ledger.watching():
        x = solve(problem, Solver(RK4(), FixedStep(1 / steps), sensitivity)).x[-1]
        kept = live_numbers() - before
        before_backward = ledger.now
        ledger.peak = 0
        x.sum().backward()
    return kept, ledger.peak - before_backward


def test_backpropagation_keeps_every_evaluation() -> None:
    kept_few, _ = numbers_kept(DiscreteAdjoint(), FEW)
    kept_many, _ = numbers_kept(DiscreteAdjoint(), MANY)
    assert kept_many > 3 * kept_few


@pytest.mark.parametrize("every", [1, 4])
def test_checkpoints_are_all_that_is_kept(every: int) -> None:
    sensitivity = CheckpointedAdjoint(every)
    kept_few, peak_few = numbers_kept(sensitivity, FEW)
    kept_many, peak_many = numbers_kept(sensitivity, MANY)
    assert kept_many - kept_few <= STATE * (MANY - FEW) // every
    assert peak_many <= 1.1 * peak_few


@pytest.mark.parametrize("sensitivity", [BacksolveAdjoint(), BacksolveAdjoint(seminorm=False)])
def test_backsolve_keeps_no_more_for_more_steps(sensitivity: Sensitivity) -> None:
    kept_few, peak_few = numbers_kept(sensitivity, FEW)
    kept_many, peak_many = numbers_kept(sensitivity, MANY)
    assert kept_many <= 1.1 * kept_few
    assert peak_many <= 1.1 * peak_few


@pytest.mark.parametrize("coupling", [0.9, 1.0])
def test_a_reversible_pair_keeps_its_end_whatever_the_steps(coupling: float) -> None:
    kept_few, peak_few = numbers_kept(ReversibleAdjoint(coupling), FEW)
    kept_many, peak_many = numbers_kept(ReversibleAdjoint(coupling), MANY)
    assert kept_many == kept_few
    assert peak_many == peak_few


def test_interpolating_keeps_the_states_and_slopes() -> None:
    """For RK4: a start, an end that is the next one's start, four slopes."""
    kept_few, peak_few = numbers_kept(InterpolatingAdjoint(), FEW)
    kept_many, peak_many = numbers_kept(InterpolatingAdjoint(), MANY)
    assert kept_many - kept_few <= 6 * STATE * (MANY - FEW)
    assert peak_many <= 1.1 * peak_few


@pytest.mark.one_in(3)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
def test_the_backward_pass_lets_go_of_what_was_kept(sensitivity: Sensitivity) -> None:
    """A loss that is still at hand, as in a training loop, must not hold on to its graph."""
    problem = ODEProblem(SmallField(), small_start().requires_grad_(), FORWARD)
    sizes = []
    for steps in (FEW, MANY):
        ledger, before = Ledger(), live_numbers()
        with ledger.watching():
            loss = solve(problem, Solver(RK4(), FixedStep(1 / steps), sensitivity)).x[-1].sum()
            loss.backward()
        sizes.append(live_numbers() - before)
    assert sizes[1] <= sizes[0] + STATE


@pytest.mark.one_in(3)
@pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=str)
def test_memory_is_flat_over_training(sensitivity: Sensitivity) -> None:
    field = SmallField()
    optimiser = torch.optim.SGD([field.mix, field.shift], lr=1e-3)
    solver = Solver(RK4(), FixedStep(0.5), sensitivity)
    live = []
    for iteration in range(200):
        optimiser.zero_grad()
        solve(ODEProblem(field, small_start(), FORWARD), solver).x[-1].square().sum().backward()
        optimiser.step()
        if iteration in (20, 199):
            live.append(live_numbers())
    assert live[0] == live[1]


def test_without_gradients_nothing_is_saved() -> None:
    ledger = Ledger()
    problem = ODEProblem(SmallField(), small_start(), FORWARD)
    with torch.no_grad(), ledger.watching():
        solve(problem)
    assert ledger.peak == 0
