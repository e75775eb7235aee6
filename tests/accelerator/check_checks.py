"""A check that is read later says what it would have said at once, and is never lost."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    Dopri5,
    FixedStep,
    Heun,
    Likelihood,
    MultiscaleFlow,
    NonFiniteStateError,
    ODEProblem,
    Sensitivity,
    Solver,
    SolverError,
    deferred_checks,
    evaluate,
    solve,
)
from rnode_dyn.data.splits import Event
from rnode_dyn.report.grids import draw_samples
from rnode_dyn.training.loop.pieces import loss_in_pieces
from tests.accelerator.lightning import counted_training
from tests.accelerator.models import image_model
from tests.accelerator.readings import host_readings
from tests.accelerator.twins import Figures, agree
from tests.flows.cases import SENSITIVITIES, name_of
from tests.tiny import tiny

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

IMAGES = Event((1, 8, 8), levels=17)
EACH_SENSITIVITY = pytest.mark.parametrize("sensitivity", SENSITIVITIES, ids=name_of)
FEW = Solver(RK4(), FixedStep(0.25))


class Breaks(nn.Module):
    """A field one sample of which is no number after a time, or whose parameter has no gradient."""

    def __init__(self, state: bool = False, parameter: bool = False) -> None:
        super().__init__()
        self.state = state
        self.rate = nn.Parameter(torch.tensor(0.0 if parameter else 0.5))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        slope = -self.rate.sqrt() * x
        second = torch.arange(len(x), device=x.device)[:, None] == 1
        return torch.where(second & (t > 0.5), torch.nan, slope) if self.state else slope


def start() -> Tensor:
    return torch.rand(3, 4)


@EACH_SENSITIVITY
@pytest.mark.parametrize("broken", ["state", "parameter"])
def test_an_error_is_told_later_as_at_once(broken: str, sensitivity: Sensitivity) -> None:
    solver = Solver(RK4(), FixedStep(0.25), sensitivity)

    def compute(problem: ODEProblem) -> None:
        with deferred_checks():
            solved = solve(problem, solver).x[-1]
            if broken == "parameter":
                solved.sum().backward()

    def told(field: nn.Module, x0: Tensor) -> Figures:
        with pytest.raises(NonFiniteStateError) as caught:
            compute(ODEProblem(field, x0.requires_grad_(), (0.0, 1.0)))
        return {"said": str(caught.value), "worst": caught.value.worst_sample}

    agree(lambda: (Breaks(**{broken: True}), start()), told)


@EACH_SENSITIVITY
def test_nothing_is_read_before_the_end(sensitivity: Sensitivity) -> None:
    problem = ODEProblem(Breaks(state=True).to("accel"), start().to("accel"), (0.0, 1.0))

    def compute() -> None:
        with deferred_checks():
            with host_readings() as readings:
                solve(problem, Solver(RK4(), FixedStep(0.25), sensitivity)).x.sum().backward()
            assert readings.count == 0, str(readings)

    with pytest.raises(NonFiniteStateError):
        compute()


@pytest.mark.parametrize("stepping", [FixedStep(0.25), AdaptiveStep()], ids=name_of)
def test_the_first_to_break_is_blamed_for_those_that_come_after(stepping) -> None:
    """An adaptive solve cannot wait: it falls over what the solve before it has left."""
    sound, broken = Breaks().to("accel"), Breaks(state=True).to("accel")

    def compute(x: Tensor) -> None:
        with deferred_checks():
            x = solve(ODEProblem(sound, x, (0.0, 1.0)), FEW).x[-1]
            x = solve(ODEProblem(broken, x, (0.0, 1.0)), FEW).x[-1]
            solve(ODEProblem(sound, x, (2.0, 3.0)), Solver(Dopri5(), stepping))

    with pytest.raises(SolverError) as caught:
        compute(start().to("accel"))
    assert (caught.value.t, caught.value.worst_sample) == (0.5, 1)


def test_contexts_within_one_another_are_read_by_the_outer_one() -> None:
    problem = ODEProblem(Breaks(state=True).to("accel"), start().to("accel"), (0.0, 1.0))

    def compute() -> None:
        with deferred_checks():
            with host_readings() as readings, deferred_checks():
                solve(problem, FEW)
            assert readings.count == 0

    with pytest.raises(NonFiniteStateError):
        compute()


@EACH_SENSITIVITY
def test_a_gradient_asked_for_after_the_context_is_looked_at_all_the_same(
    sensitivity: Sensitivity,
) -> None:
    problem = ODEProblem(Breaks(parameter=True).to("accel"), start().to("accel"), (0.0, 1.0))
    with deferred_checks():
        x = solve(problem, Solver(RK4(), FixedStep(0.25), sensitivity)).x[-1]
    with pytest.raises(NonFiniteStateError, match="in the backward pass"):
        x.sum().backward()


def test_another_error_is_not_held_up() -> None:
    problem = ODEProblem(Breaks(state=True).to("accel"), start().to("accel"), (0.0, 1.0))

    def compute() -> None:
        with deferred_checks():
            solve(problem, FEW)
            raise KeyError("mine")

    with pytest.raises(KeyError):
        compute()


class Counting(nn.Module):
    """A field that is another one at each evaluation, by a counter in no tensor."""

    calls = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        self.calls += 1
        return -x * self.calls


@pytest.mark.parametrize("sensitivity", SENSITIVITIES[1:], ids=name_of)
def test_a_step_that_comes_out_different_is_told_later_too(sensitivity: Sensitivity) -> None:
    problem = ODEProblem(Counting(), start().to("accel").requires_grad_(), (0.0, 1.0))
    with pytest.raises(RuntimeError, match=r"different|changes between"), deferred_checks():
        solve(problem, Solver(Dopri5(), FixedStep(0.5), sensitivity)).x[-1].sum().backward()


def broken_model() -> MultiscaleFlow:
    """Six blocks on the device, of which the third gives no number."""
    model = image_model().to("accel")
    with torch.no_grad():
        next(model.blocks[2].parameters()).fill_(torch.nan)
    return model


def pixels(count: int = 3) -> Tensor:
    return torch.randint(0, 17, (count, 1, 8, 8), dtype=torch.uint8)


def test_a_training_says_which_block_broke_down(tmp_path: Path) -> None:
    with pytest.raises(SolverError, match="not finite") as caught:
        counted_training(broken_model(), [pixels()], IMAGES, tiny(precision="64-true"), tmp_path)
    assert "block 2 (Heun, step 1" in "".join(caught.value.__notes__)


def test_a_piece_that_breaks_down_names_the_sample_in_the_batch() -> None:
    model = image_model(solver=Solver(Heun(), FixedStep(1.0), CheckpointedAdjoint()))
    u = torch.rand(5, 1, 8, 8)
    u[3] = torch.nan
    with pytest.raises(NonFiniteStateError, match="worst sample: 3"), deferred_checks():
        loss_in_pieces(Likelihood(), model.to("accel"), u.to("accel"), IMAGES, 2)


def test_samples_that_are_none_do_not_come_home() -> None:
    with pytest.raises(NonFiniteStateError):
        draw_samples(broken_model(), IMAGES, 3, 0.7, seed=4)


def test_an_evaluation_stops_at_the_batch_that_breaks_down() -> None:
    with pytest.raises(NonFiniteStateError):
        evaluate(broken_model(), [pixels()], IMAGES)
